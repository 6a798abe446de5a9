//! The programs people have, on a real mount; each result is checked by its own means, then again
//! after an unmount and a remount, then again after the daemon was killed.

mod common;

use common::{Mount, has, sh};
use std::path::Path;

/// Runs `check` now, after a remount, and after a crash.
#[track_caller]
fn holds(mount: &Mount, check: impl Fn(&Path)) {
    check(&mount.dir());
    mount.remount();
    check(&mount.dir());
    mount.crash();
    check(&mount.dir());
}

/// A source tree of this very project, with links, an empty directory, odd names and times.
const MAKE_TREE: &str = r#"
    mkdir -p "$T/empty" "$T/deep/a/b/c/d/e"
    cp -a "$SRC/src" "$SRC/tests" "$SRC/Cargo.toml" "$T/"
    ln -s ../Cargo.toml "$T/deep/link"
    ln -s nowhere "$T/dangling"
    printf 'x' > "$T/$(printf 'tab\tnewline\nbyte\377')"
    : > "$T/zero"
    seq 200000 > "$T/numbers"
    chmod 4751 "$T/zero"; chmod 500 "$T/empty"
    touch -d '2001-02-03 04:05:06.789' "$T/numbers" "$T/deep"
    mkfifo "$T/fifo"
"#;

fn make_tree(at: &Path) {
    let src = env!("CARGO_MANIFEST_DIR");
    std::fs::create_dir_all(at).unwrap();
    sh(at, &format!("SRC='{src}'; T='{}'; {MAKE_TREE}", at.display()));
}

/// Compares everything that `find` and `diff` can see of two trees.
fn same(left: &Path, right: &Path) {
    let look = r#"find . -mindepth 1 -printf '%P %y %m %U %G %l %T@ ' \( -type f -printf '%s\n' -o -printf '\n' \) | LC_ALL=C sort"#;
    assert_eq!(sh(left, look), sh(right, look));
    sh(left, &format!("diff -r --no-dereference --exclude=fifo . '{}'", right.display()));
}

#[test]
fn cp_and_tar_bring_a_tree_in_and_out() {
    let mount = Mount::new();
    let original = mount.place.join("original");
    make_tree(&original);
    let copy = format!(
        "cp -a '{0}' copied; tar -C '{0}' --format=posix -cf - . | (mkdir untarred && tar -C untarred -xpf -)",
        original.display()
    );
    sh(&mount.dir(), &copy);
    holds(&mount, |dir| {
        same(&original, &dir.join("copied"));
        same(&original, &dir.join("untarred"));
        assert_eq!(sh(dir, "ls -lRA copied | wc -l"), sh(&original, "ls -lRA . | wc -l"));
    });
    let out = mount.place.join("out");
    sh(&mount.dir(), &format!("cp -a copied '{}'", out.display()));
    same(&original, &out);
    sh(&mount.dir(), "rm -rf copied untarred; [ -z \"$(ls -A)\" ]");
}

#[test]
fn mv_replaces_files_and_moves_trees() {
    let mount = Mount::new();
    sh(
        &mount.dir(),
        "mkdir -p a/b c; echo one > a/b/f; echo two > c/f; mv a/b/f c/f; mv a c/moved
         ! mv -T c c/moved/inside 2>/dev/null; mkdir full empty; echo x > full/x
         ! mv -T empty full 2>/dev/null; mv -T full empty; ! test -e full",
    );
    holds(&mount, |dir| {
        assert_eq!(
            sh(dir, "cat c/f empty/x; find . -mindepth 1 | LC_ALL=C sort | tr '\\n' ' '"),
            "one\nx\n./c ./c/f ./c/moved ./c/moved/b ./empty ./empty/x "
        );
    });
}

#[test]
fn dd_and_truncate_write_anywhere() {
    let mount = Mount::new();
    let twin = mount.place.join("twin");
    std::fs::create_dir(&twin).unwrap();
    let script = "
        put() { head -c \"$2\" /dev/zero | tr '\\0' \"$3\" | dd of=f bs=64K oflag=seek_bytes seek=\"$1\" conv=notrunc status=none; }
        put 0 100 a; put 65530 12 b; put 1000000 70000 c; put 50 100 d
        truncate -s 1200000 f; truncate -s 65534 f; truncate -s 300000 f; put 299990 100000 e
        echo end >> f
        cp f g; : > g; truncate -s 5G sparse; put 0 0 x; printf tail >> sparse";
    sh(&twin, script);
    sh(&mount.dir(), script);
    let look = "cksum f g; stat -c '%n %s' f g sparse; tail -c 6 sparse | od -c; dd if=sparse bs=1M skip=3000 count=1 status=none | cksum";
    let wanted = sh(&twin, look);
    holds(&mount, |dir| assert_eq!(sh(dir, look), wanted));
}

#[test]
fn links_modes_owners_and_times_are_kept() {
    let mount = Mount::new();
    sh(
        &mount.dir(),
        "echo x > f; ln -s f short; ln -s \"$(printf 'x%.0s' $(seq 3000))\" long
         chmod 2640 f; touch -h -d '1999-12-31 23:59:59.5' short; touch -d '1960-01-02 03:04:05.25' f
         [ \"$(id -u)\" != 0 ] || chown 12:34 f",
    );
    let look = "stat -c '%n %a %u %g %s %Y %F' f short; readlink short; readlink long | wc -c; cat short";
    let wanted = sh(&mount.dir(), look);
    assert!(wanted.contains(" 2640 "), "{wanted}");
    holds(&mount, |dir| assert_eq!(sh(dir, look), wanted));
}

#[test]
fn what_is_unlinked_stays_readable_while_it_is_open() {
    let mount = Mount::new();
    let read = sh(
        &mount.dir(),
        "seq 100000 > big; echo small > little; exec 3< big 4< little 5>> big; rm big little
         echo more >&5; [ -z \"$(ls -A)\" ]; cksum <&3; cat <&4",
    );
    let wanted = sh(&mount.place.join(""), "(seq 100000; echo more) | cksum; echo small");
    assert_eq!(read, wanted);
    holds(&mount, |dir| assert_eq!(sh(dir, "ls -A"), ""));
}

#[test]
fn a_directory_of_many_files_lists_each_once() {
    let mount = Mount::new();
    sh(&mount.dir(), "mkdir d; cd d; seq -f 'file %05g' 5000 | xargs -d '\\n' touch");
    holds(&mount, |dir| {
        assert_eq!(sh(dir, "ls d | sort -u | wc -l; ls -f d | wc -l"), "5000\n5002\n");
    });
    sh(&mount.dir(), "cd d; ls | awk 'NR % 2' | xargs -d '\\n' rm");
    holds(&mount, |dir| assert_eq!(sh(dir, "ls d | wc -l"), "2500\n"));
    sh(&mount.dir(), "rm -r d; [ -z \"$(ls -A)\" ]");
}

#[test]
fn git_works() {
    if !has("git") {
        eprintln!("no git here: install it to run this test");
        return;
    }
    let mount = Mount::new();
    sh(
        &mount.dir(),
        "export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
         git init -q repo; cd repo; git config user.name n; git config user.email n@example.org
         for i in $(seq 20); do mkdir -p d$((i % 3)); echo $i > d$((i % 3))/f$i; git add -A; git commit -qm \"change $i\"; done
         git tag end; git gc -q; cd ..; git clone -q repo clone; diff -r --exclude=.git repo clone",
    );
    holds(&mount, |dir| {
        let look = "export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
            git -c safe.directory='*' -C clone fsck --full 2>&1 | grep -v ^notice || true
            git -c safe.directory='*' -C clone status --porcelain; git -c safe.directory='*' -C clone log --oneline end | wc -l";
        assert_eq!(sh(dir, look), "20\n");
    });
}

#[test]
fn sqlite_works_in_both_journal_modes() {
    if !has("python3") {
        eprintln!("no python3 here: install it to run this test");
        return;
    }
    let mount = Mount::new();
    let script = r#"
import sqlite3
for mode in ("delete", "wal"):
    base = sqlite3.connect(mode + ".db")
    assert base.execute("pragma journal_mode=" + mode).fetchone()[0] == mode
    base.execute("create table t (n integer primary key, s text)")
    for batch in range(20):
        with base:
            base.executemany("insert into t values (?, ?)", ((batch * 50 + i, "x" * (i * 7)) for i in range(50)))
    base.execute("delete from t where n % 3 = 0")
    base.commit()
    base.close()
"#;
    std::fs::write(mount.place.join("write.py"), script).unwrap();
    sh(&mount.dir(), "python3 ../write.py");
    holds(&mount, |dir| {
        let look = "for mode in delete wal; do python3 -c \"
import sqlite3
base = sqlite3.connect('$mode.db')
print(base.execute('pragma integrity_check').fetchone()[0], base.execute('select count(*), sum(n) from t').fetchone())\"; done";
        assert_eq!(sh(dir, look), "ok (666, 333000)\n".repeat(2).replace("333000", &sum_kept().to_string()));
    });
}

fn sum_kept() -> u64 {
    (0..1000).filter(|n| n % 3 != 0).sum()
}

#[test]
fn files_are_always_ready_and_the_log_does_not_mind() {
    if !has("python3") {
        eprintln!("no python3 here: install it to run this test");
        return;
    }
    let mount = Mount::new();
    let look = "import select
file = open('f', 'wb')
poll = select.poll()
poll.register(file, select.POLLIN | select.POLLOUT)
print(poll.poll(10_000) == [(file.fileno(), select.POLLIN | select.POLLOUT)])";
    assert_eq!(sh(&mount.dir(), &format!("python3 -c \"{look}\"")), "True\n");
    let log = std::fs::read_to_string(mount.place.store().join("daemon.log")).unwrap_or_default();
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn statfs_tells_the_truth() {
    let mount = Mount::new();
    let of = |path: &Path| rustix::fs::statvfs(path).unwrap();
    let (ours, below) = (of(&mount.dir()), of(&mount.place.store()));
    assert_eq!(ours.f_blocks * ours.f_frsize, below.f_blocks * below.f_frsize);
    assert!(ours.f_bavail > 0 && ours.f_bavail * ours.f_frsize <= ours.f_blocks * ours.f_frsize);
    assert_eq!(ours.f_namemax, 255);
}

#[test]
fn names_are_bytes_and_their_length_is_bounded() {
    use std::os::unix::ffi::OsStrExt;
    let mount = Mount::new();
    let longest = vec![0xfe; 255];
    let path = mount.dir().join(std::ffi::OsStr::from_bytes(&longest));
    std::fs::write(&path, "x").unwrap();
    let too_long = mount.dir().join("n".repeat(256));
    assert_eq!(std::fs::write(too_long, "x").unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    holds(&mount, |dir| {
        assert_eq!(std::fs::read(dir.join(std::ffi::OsStr::from_bytes(&longest))).unwrap(), b"x");
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1);
    });
}
