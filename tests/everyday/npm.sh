# npm: real packages installed, with their links and thousands of small files, and run.
. "$(dirname "$0")/lib.sh"
HOME=$(getent passwd "$(id -u)" | cut -d: -f6)

work() {
    need npm npm
    echo '{"name":"project","version":"0.0.0","private":true,"type":"module"}' >package.json
    npm install --no-audit --no-fund --save-exact typescript@5 eslint@9
    cat >add.ts <<'END'
export const add = (a: number, b: number): number => a + b;
console.log(add(2, 3));
END
    echo 'export default [{ rules: { "no-unused-vars": "error" } }];' >eslint.config.js
    printf 'const unused = 1;\n' >bad.js
    npx tsc --target es2022 --module es2022 add.ts
}

check() {
    [ "$(node add.js)" = 5 ]
    npx tsc --noEmit --target es2022 --module es2022 add.ts
    npx eslint add.js
    if npx eslint bad.js >"$disk/said"; then fail "eslint saw nothing"; fi
    grep -q no-unused-vars "$disk/said"
    # All of the tree is as the lock file has it.
    npm ls --all >/dev/null
    [ "$(find node_modules -type f | wc -l)" -gt 1000 ]
    [ -L node_modules/.bin/tsc ]
}

"$1"
