//! Commands on a store that a daemon has open: they do there what they do on a closed one.

mod common;

use common::{Mount, Place, lsmfs, lsmfs_fed, wait_until};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;

/// What a series of commands printed, with their exit statuses.
fn transcript(place: &Place, commands: &[&[&str]]) -> Vec<String> {
    let run = |words: &&[&str]| {
        let store = place.store();
        let place_of = |word: &&str| match *word {
            "STORE" => store.as_os_str().to_owned(),
            word => word.into(),
        };
        let done = lsmfs(words.iter().map(place_of));
        format!("{words:?}: {} {}{}", done.status, done.text(), done.err)
    };
    commands.iter().map(run).collect()
}

#[test]
fn commands_do_the_same_on_a_mounted_store_as_on_a_closed_one() {
    let commands: &[&[&str]] = &[
        &["put", "STORE", "a/b", "--value", "one"],
        &["put", "STORE", "a", "--value", "no"],
        &["get", "STORE", "a/b"],
        &["get", "STORE", "a"],
        &["get", "STORE", "none"],
        &["get", "STORE", "none", "--version"],
        &["batch", "STORE", "/dev/null"],
        &["batch", "STORE", "/nonexistent"],
        &["put", "STORE", "c", "/nonexistent"],
        &["get", "STORE", "c"],
        &["ls", "STORE"],
        &["ls", "STORE", "a"],
        &["ls", "STORE", "none"],
        &["scan", "STORE"],
        &["scan", "STORE", "a/b", "a/b", "--keys"],
        &["flush", "STORE"],
        &["compact", "STORE"],
        &["volume", "create", "STORE", "work"],
        &["volume", "create", "STORE", "work"],
        &["volume", "create", "STORE", "a/b"],
        &["put", "STORE", "--volume", "work", "w", "--value", "in work"],
        &["scan", "STORE", "--volume", "work"],
        &["ls", "STORE", "--volume", "none"],
        &["fork", "STORE", "main", "twin"],
        &["snapshot", "create", "STORE", "twin", "monday"],
        &["put", "STORE", "--volume", "twin", "a/b", "--value", "two"],
        &["put", "STORE", "--volume", "twin@monday", "x", "--value", "two"],
        &["get", "STORE", "--volume", "twin@monday", "a/b"],
        &["snapshot", "list", "STORE", "twin"],
        &["restore", "STORE", "twin", "monday"],
        &["get", "STORE", "--volume", "twin", "a/b"],
        &["snapshot", "delete", "STORE", "twin", "monday"],
        &["diff", "STORE", "main", "twin"],
        &["diff", "STORE", "twin", "twin@none"],
        &["volume", "rename", "STORE", "twin", "brother"],
        &["volume", "list", "STORE"],
        &["quota", "set", "STORE", "brother", "--bytes", "1M", "--files", "3"],
        &["put", "STORE", "--volume", "brother", "d/e", "--value", "too many"],
        &["quota", "show", "STORE"],
        &["quota", "show", "STORE", "brother"],
        &["quota", "show", "STORE", "none"],
        &["volume", "delete", "STORE", "brother"],
        &["volume", "delete", "STORE", "brother"],
        &["rm", "STORE", "a"],
        &["rm", "STORE", "-f", "none"],
        &["rm", "STORE", "none", "a/b"],
        &["rm", "STORE", "-r", "a"],
        &["ls", "STORE"],
    ];
    let closed = Place::new();
    closed.lsmfs("put", &["first", "--value", "1"]).ok();
    let mount = Mount::new();
    mount.place.lsmfs("put", &["first", "--value", "1"]).ok();
    let (here, there) = (transcript(&closed, commands), transcript(&mount.place, commands));
    let (closed, mounted) = (closed.store(), mount.place.store());
    for (here, there) in here.iter().zip(&there) {
        assert_eq!(here, &there.replace(mounted.to_str().unwrap(), closed.to_str().unwrap()));
    }
}

#[test]
fn large_values_pass_through_whole() {
    let mount = Mount::new();
    let value: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 / 3) as u8).collect();
    let store = mount.place.store();
    lsmfs_fed(["put", store.to_str().unwrap(), "big"], &value).ok();
    assert_eq!(fs::read(mount.dir().join("big")).unwrap(), value);
    assert_eq!(mount.place.lsmfs("get", &["big"]).out, value);
    let stats = mount.place.lsmfs("stats", &["--json"]).ok();
    assert!(stats.contains("\"files\": 1"), "{stats}");
}

#[test]
fn what_cannot_be_read_is_not_stored() {
    let mount = Mount::new();
    mount.place.lsmfs("put", &["a", "--value", "old"]).ok();
    let dir = mount.dir();
    mount.place.lsmfs("put", &["a", dir.to_str().unwrap()]).fails(1, &["directory"]);
    assert_eq!(fs::read(mount.dir().join("a")).unwrap(), b"old");
}

#[test]
fn the_socket_is_its_owners_and_goes_with_the_mount() {
    let mount = Mount::new();
    let socket = mount.place.store().join("control");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!([mode(&socket), mode(&mount.place.store())], [0o600, 0o700]);
    mount.place.umount().ok();
    assert!(!socket.exists());
    mount.place.mount(&[]).ok();
    mount.crash();
    mount.place.lsmfs("put", &["a", "--value", "after"]).ok();
    assert_eq!(fs::read(mount.dir().join("a")).unwrap(), b"after");
}

/// A frame, as a client sends it.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    [&[kind][..], &length, payload].concat()
}

#[test]
fn hostile_clients_harm_nobody() {
    let mount = Mount::new();
    let connect = || UnixStream::connect(mount.place.store().join("control")).unwrap();
    for noise in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        vec![1, 255, 255, 255, 255],
        frame(1, b""),
        frame(1, b"\x01{\"Get\":"),
        frame(1, b"\x07\"Flush\""),
        frame(1, &[b'['; 100_000]),
        frame(2, b"data first"),
        frame(19, b"\0"),
    ] {
        let mut client = connect();
        // It may be cut off before it has said all.
        let _ = client.write_all(&noise);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert!(answer.len() < 1000);
    }
    // Many that say nothing, and some in the middle of a request.
    let silent: Vec<UnixStream> = (0..20).map(|_| connect()).collect();
    let put = frame(1, br#"{"Put":{"volume":"main","path":[97]}}"#.as_slice());
    let mut put = put;
    put.splice(1..5, ((put.len() - 4) as u32).to_le_bytes());
    put.insert(5, 1);
    let halfway: Vec<UnixStream> = (0..60)
        .map(|_| {
            let mut client = connect();
            let _ = client.write_all(&put);
            client
        })
        .collect();
    // Whoever asks in earnest gets his turn.
    wait_until("a command is served", || mount.place.lsmfs("put", &["b", "--value", "x"]).status == 0);
    assert_eq!(fs::read(mount.dir().join("b")).unwrap(), b"x");
    assert!(!mount.dir().join("a").exists());
    drop((silent, halfway));
    mount.place.umount().ok();
}
