#!/usr/bin/env bash
# Build the package with colcon into install/ (messages and executables), when what it is built from has changed.
# Where tf2_msgs is not installed (the wheels do not have it), its one message that /tf needs is built too.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. scripts/env.sh
mkdir -p build out
touch build/COLCON_IGNORE out/COLCON_IGNORE

tf2_msgs_installed() {  # in the ROS that is used; not what an earlier call, or another checkout, has put into install/
  local prefixes=("$root/.venv") prefix
  if [[ $(<.venv/kind) == system* ]]; then IFS=: read -ra prefixes <<<"${AMENT_PREFIX_PATH:-}"; fi
  for prefix in "${prefixes[@]}"; do
    if [[ $prefix != "$root"/install/* && -e $prefix/share/tf2_msgs/package.xml ]]; then return 0; fi
  done
  return 1
}

packages=(pose3d_ros)
if ! tf2_msgs_installed; then packages=(tf2_msgs pose3d_ros); fi

# Python does not count: scripts/env.sh puts the sources first on the path. Launch and config files are linked, so only
# their names count.
fingerprint() {
  {
    cat CMakeLists.txt package.xml msg/*.msg scripts/build.sh .venv/kind
    echo "${packages[@]}"
    python3 --version
    find launch config -type f -not -path '*/__pycache__/*' | LC_ALL=C sort
  } | sha256sum | cut -c1-16
}
shape() { { cat CMakeLists.txt package.xml; ls msg; echo "${packages[@]}"; } | sha256sum | cut -c1-16; }
built() { [[ -e install/local_setup.bash && $(cat build/fingerprint 2>/dev/null) == "$(fingerprint)" ]]; }

if built; then exit 0; fi
exec 9>build/lock
flock 9
if built; then exit 0; fi  # by the process that held the lock

# The same name and fields as the real one, so that both are one type on the network. Under build/, where no colcon of a
# workspace around this checkout looks: a ROS installation must not get a second tf2_msgs.
write_tf2_msgs() {  # DIRECTORY
  mkdir -p "$1/msg"
  cat >"$1/msg/TFMessage.msg" <<'END'
geometry_msgs/TransformStamped[] transforms
END
  cat >"$1/package.xml" <<'END'
<package format="3">
  <name>tf2_msgs</name>
  <version>0.0.0</version>
  <description>The message of /tf, for a ROS 2 without tf2.</description>
  <maintainer email="maintainers@example.org">The pose3d_ros maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>geometry_msgs</depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
END
  cat >"$1/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.20)
project(tf2_msgs)
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package(geometry_msgs REQUIRED)
rosidl_generate_interfaces(tf2_msgs msg/TFMessage.msg DEPENDENCIES geometry_msgs)
ament_export_dependencies(rosidl_default_runtime)
ament_package()
END
}

echo '[build] building messages and executables (log/latest_build has the details)' >&2
rm -f build/fingerprint
if [[ $(cat build/shape 2>/dev/null) != "$(shape)" ]]; then
  rm -rf build/pose3d_ros build/tf2_msgs install  # what a deleted message left behind would stay importable
  shape >build/shape
fi
base_paths=("$root")
if [[ ${packages[0]} == tf2_msgs ]]; then
  if [[ ! build/source/tf2_msgs/CMakeLists.txt -nt scripts/build.sh ]]; then write_tf2_msgs build/source/tf2_msgs; fi
  base_paths+=("$root/build/source")
fi
generator=()
if command -v ninja >/dev/null; then generator=(-G Ninja); fi
if ! colcon --log-level error --log-base log build \
    --base-paths "${base_paths[@]}" --packages-select "${packages[@]}" --build-base build --install-base install --symlink-install \
    --event-handlers status- --cmake-args "${generator[@]}" "-DPython3_EXECUTABLE=$(command -v python3)" \
    -DBUILD_TESTING=OFF --log-level=WARNING; then
  for package in "${packages[@]}"; do
    echo "[build] failed; the last lines of log/latest_build/$package/stdout_stderr.log:" >&2
    tail -n 40 "log/latest_build/$package/stdout_stderr.log" >&2 || true
  done
  exit 1
fi
fingerprint >build/fingerprint
