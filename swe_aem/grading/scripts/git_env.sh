# Sourced in front of every git script of the host. Inputs: TOKEN (unique per call), WORKDIR, PRIVATE (a directory to make).
#
# Git reads configuration and environment that the repository's users control. Here it gets a home of its own, so that a
# script does the same thing whatever the image or an agent configured. `safe.directory` has to stand in a global file:
# older versions of git ignore it on the command line.
set -u -o pipefail
export LC_ALL=C
unset "${!GIT_@}"
private=$PRIVATE
mkdir -p "$private" || { echo "cannot make $private"; exit 20; }
printf '[safe]\n\tdirectory = *\n[gc]\n\tauto = 0\n[advice]\n\tdetachedHead = false\n' >"$private/.gitconfig"
export HOME="$private" XDG_CONFIG_HOME="$private" GIT_CONFIG_GLOBAL="$private/.gitconfig" GIT_CONFIG_NOSYSTEM=1
export GIT_ATTR_NOSYSTEM=1 GIT_NO_REPLACE_OBJECTS=1 GIT_TERMINAL_PROMPT=0 GIT_PAGER=cat GIT_OPTIONAL_LOCKS=0
cd "$WORKDIR" || { echo "there is no directory $WORKDIR"; exit 20; }
