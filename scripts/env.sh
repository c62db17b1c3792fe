# shellcheck shell=bash
# Source this (bash), from anywhere:    . scripts/env.sh
# It activates .venv, tells ROS 2 where it is (unless a ROS 2 installation is sourced already, which is kept), and adds
# the built messages when there are any. Sourcing it again is harmless.

_pose3d_prepend() {  # VARIABLE DIRECTORY: put it first, once
  local -n _variable=$1
  case ":${_variable:-}:" in
    *":$2:"*) ;;
    *) _variable=$2${_variable:+:$_variable} ;;
  esac
  export "${1?}"
}

_pose3d_env() {
  local root venv kind python_root directory nounset=
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  venv=$root/.venv
  if [[ ! -e $venv/run.stamp ]]; then
    echo "pose3d_ros: no environment yet (or a half-made one): run  make -C '$root' env" >&2
    return 1
  fi
  read -r kind _ <"$venv/kind"

  case $- in *u*) nounset=1; set +u ;; esac  # neither activate nor colcon's files are made for `set -u`
  # shellcheck disable=SC1091
  [[ ${VIRTUAL_ENV:-} == "$venv" ]] || . "$venv/bin/activate"

  if [[ $kind == wheels ]]; then
    # What a ROS installation's setup.bash would say; also keeps the wheels from restarting Python to say it.
    for directory in "$venv"/lib/python3*/site-packages/ros_*.libs "$venv/lib"; do
      _pose3d_prepend LD_LIBRARY_PATH "$directory"
    done
    _pose3d_prepend AMENT_PREFIX_PATH "$venv"
    _pose3d_prepend CMAKE_PREFIX_PATH "$venv"
    export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1 ROS_VERSION=2 ROS_PYTHON_VERSION=3
  elif [[ -z ${ROS_DISTRO:-} ]]; then
    echo "pose3d_ros: $venv was made for a ROS 2 installation: source its setup.bash first" >&2
    [[ -z $nounset ]] || set -u
    return 1
  fi

  # shellcheck disable=SC1091
  if [[ -e $root/install/local_setup.bash ]]; then . "$root/install/local_setup.bash"; fi
  # Room for whole images in the shared memory of Fast DDS, unless it is set up already. Version 2 (Humble, Jazzy) reads
  # the first name, version 3 (Kilted) the second.
  if [[ -z ${FASTRTPS_DEFAULT_PROFILES_FILE:-}${FASTDDS_DEFAULT_PROFILES_FILE:-} ]]; then
    export FASTRTPS_DEFAULT_PROFILES_FILE=$root/config/fastdds.xml
    export FASTDDS_DEFAULT_PROFILES_FILE=$root/config/fastdds.xml
  fi
  # The sources come first, so that an edit or a new file counts at once; messages join from install/.
  python_root=:${PYTHONPATH:-}:
  python_root=${python_root//:$root:/:}
  python_root=${python_root#:}
  export PYTHONPATH=$root${python_root:+:${python_root%:}}
  [[ -z $nounset ]] || set -u
}

_pose3d_env
_pose3d_status=$?
unset -f _pose3d_env _pose3d_prepend
eval "unset _pose3d_status; [ $_pose3d_status -eq 0 ]"
