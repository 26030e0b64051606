# A migration and a build. It counts its runs in HOME, and fails, waits or does its work as HOME says.
set -eu
echo "$VERSION" >> "$HOME/ran"
[ ! -e "$HOME/wait" ] || exec sleep 1000
mkdir -p static
umask 0
echo "built with $TOKEN by $(id -un)" > static/built
chmod 6777 static/built
ln -sf /etc/passwd static/link
sleep 1000 &
echo "the token is $TOKEN"
[ ! -e "$HOME/fail" ] || exit 3
