#!/usr/bin/env bash
# Build the package with colcon into install/ (messages and executables), when what it is built from has changed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. scripts/env.sh
mkdir -p build out
touch build/COLCON_IGNORE out/COLCON_IGNORE

# Python does not count: scripts/env.sh puts the sources first on the path. Launch and config files are linked, so only
# their names count.
fingerprint() {
  {
    cat CMakeLists.txt package.xml msg/*.msg scripts/build.sh .venv/kind
    python3 --version
    find launch config -type f -not -path '*/__pycache__/*' | LC_ALL=C sort
  } | sha256sum | cut -c1-16
}
shape() { { cat CMakeLists.txt package.xml; ls msg; } | sha256sum | cut -c1-16; }
built() { [[ -e install/local_setup.bash && $(cat build/fingerprint 2>/dev/null) == "$(fingerprint)" ]]; }

if built; then exit 0; fi
exec 9>build/lock
flock 9
if built; then exit 0; fi  # by the process that held the lock

echo '[build] building messages and executables (log/latest_build has the details)' >&2
rm -f build/fingerprint
if [[ $(cat build/shape 2>/dev/null) != "$(shape)" ]]; then
  rm -rf build/pose3d_ros install  # what a deleted message left behind would stay importable
  shape >build/shape
fi
generator=()
if command -v ninja >/dev/null; then generator=(-G Ninja); fi
if ! colcon --log-level error --log-base log build \
    --base-paths "$root" --packages-select pose3d_ros --build-base build --install-base install --symlink-install \
    --event-handlers status- --cmake-args "${generator[@]}" "-DPython3_EXECUTABLE=$(command -v python3)" \
    -DBUILD_TESTING=OFF --log-level=WARNING; then
  echo '[build] failed; the last lines of log/latest_build/pose3d_ros/stdout_stderr.log:' >&2
  tail -n 40 log/latest_build/pose3d_ros/stdout_stderr.log >&2 || true
  exit 1
fi
fingerprint >build/fingerprint
