#!/bin/sh
# What the container image adds to its base, as a folder: the compiled product with the packages of package-lock.json
# that it runs with, and the command. The Dockerfile runs it, and so do tests, without a container engine.
# Usage: assemble-image.sh OUT   (OUT is new or empty)
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:?usage: assemble-image.sh OUT}
[ -z "$(ls -A "$out" 2>/dev/null)" ] || { echo "$out is not empty" >&2; exit 1; }
app=$out/app
mkdir -p "$app" "$out/usr/local/bin"
out=$(cd "$out" && pwd) app=$out/app
cd "$root"
[ -d node_modules ] || npm ci --no-audit --no-fund
npm run --silent build -- --out "$app/dist"
cp package.json package-lock.json .npmrc LICENSE "$app/"
cp -R crds "$app/"
# No scripts: what they would compile only makes SSH a little faster.
(cd "$app" && npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund)
rm "$app/package-lock.json" "$app/.npmrc"
# Sources, types and maps are for who develops.
rm -rf "$app/node_modules/@types"
find "$app" -type f \( -name '*.ts' -o -name '*.mts' -o -name '*.cts' -o -name '*.map' \) -delete
cat >"$out/usr/local/bin/qemu-operator" <<'END'
#!/bin/sh
# The same options as of the service: docs/operations/service.md.
exec node --max-semi-space-size=1 --optimize-for-size --v8-pool-size=1 /app/dist/bin.js "$@"
END
chmod 0755 "$out/usr/local/bin/qemu-operator"
# Whoever runs it reads, and writes nothing of it.
chmod -R a+rX,go-w "$out"
