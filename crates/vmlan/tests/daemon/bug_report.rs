//! `vmlan support`: the archive for a bug report, of a daemon that runs, of none, and of one that answers as none does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::Value;
use testbed::Output;
use vmlan_guest::Attachment;

use crate::support::{Daemon, PATIENCE, Peer, VMLAN, directory};

const CONFIG: &str = r#"
# written by zacharias
[network.lab]
[network.lab.uplink]
subnet = "10.77.5.0/24"
dns = { domain = "kaleidoscope.internal", servers = ["192.0.2.53"] }
[network.lab.port.web]
stream = { listen = "web.sock" }
mac = "52:54:00:77:00:01"
[network.lab.port.db]
stream = { listen = "db.sock" }
"#;

/// Names and texts of the files of an archive.
fn unpack(archive: &Path) -> BTreeMap<String, String> {
    let file = File::open(archive).expect("the archive");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let entries = archive.entries().expect("an archive").map(|entry| {
        let mut entry = entry.expect("a whole entry");
        let path = entry.path().expect("a path").into_owned();
        let name = path.components().skip(1).collect::<std::path::PathBuf>();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        (name.to_str().expect("text").to_owned(), text)
    });
    entries.collect()
}

#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// Runs `vmlan support` against whatever is at this socket.
fn support(control: &Path, archive: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(VMLAN);
    command.arg("support").arg("--control").arg(control).arg("--output").arg(archive).args(more);
    testbed::run(command, PATIENCE)
}

#[test]
fn everything_of_a_daemon_is_there_and_told() {
    let daemon = Daemon::start(CONFIG);
    let output = daemon.cli(&["support", "--seconds", "0"]);
    succeeds(&output);
    let names = fs::read_dir(daemon.path("")).expect("our own directory").flatten();
    let archives: Vec<_> =
        names.map(|entry| entry.path()).filter(|path| path.extension() == Some("gz".as_ref())).collect();
    let [archive] = &archives[..] else { panic!("not one archive: {archives:?}") };
    let name = archive.file_name().and_then(|name| name.to_str()).expect("text");
    assert!(name.starts_with("vmlan-support-2") && name.ends_with(".tar.gz"), "{name}");
    assert_eq!(archive.metadata().expect("the archive").permissions().mode() & 0o777, 0o600);

    let files = unpack(archive);
    let readme = &files["README.txt"];
    assert!(!readme.contains("NOT HERE"), "{readme}");
    for (file, text) in files.iter().filter(|(file, _)| *file != "README.txt") {
        assert!(readme.contains(file), "{file}: {readme}");
        assert!(output.stdout.contains(file.as_str()), "{file}: {}", output.stdout);
        assert!(
            !text.is_empty() || ["events.jsonl", "leases.txt"].contains(&file.as_str()),
            "{file} is empty"
        );
    }
    assert_eq!(files["configuration/file.toml"], CONFIG);
    for (file, word) in [
        ("configuration/running.toml", "52:54:00:77:00:01"),
        ("versions.txt", env!("CARGO_PKG_VERSION")),
        ("doctor.txt", "control_socket"),
        ("networks.json", "\"fdb_entries\""),
        ("ports.json", "web.sock"),
        ("uplinks.json", "kaleidoscope.internal"),
        ("counters-1.json", "\"rx_frames\""),
        ("counters-2.json", "\"rx_frames\""),
    ] {
        assert!(files[file].contains(word), "{word} in {file}: {}", files[file]);
    }
    #[cfg(target_os = "linux")]
    for (file, word) in [
        ("process/threads-1.txt", "vmlan-worker"),
        ("process/threads-2.txt", "vmlan-worker"),
        ("process/status.txt", "VmRSS"),
        ("process/descriptors.txt", "socket"),
        ("process/limits.txt", "Max open files"),
    ] {
        assert!(files[file].contains(word), "{word} in {file}: {}", files[file]);
    }
    assert!(output.stdout.contains("before you send it"), "{}", output.stdout);
    daemon.stop();
}

#[test]
fn a_masked_archive_has_nothing_of_this_machine() {
    let daemon = Daemon::start(CONFIG);
    let guest = Peer::attach(9, Attachment::Stream { path: daemon.path("db.sock") });
    let guest_address = guest.mac.to_string();
    daemon.wait_up(&["db"]);
    let archive = daemon.path("masked.tar.gz");
    let output = daemon.cli(&["support", "--mask", "--seconds", "1", "--output", "masked.tar.gz", "--json"]);
    succeeds(&output);
    drop(guest);
    let told: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(told["masked"], true);
    assert!(told["files"].as_array().is_some_and(|files| files.len() > 10), "{told}");

    let files = unpack(&archive);
    let place = daemon.path("").display().to_string();
    let place = place.trim_end_matches('/');
    let originals = [
        place,
        "web.sock",
        "db.sock",
        "52:54:00:77:00:01",
        &guest_address,
        "10.77.5.",
        "192.0.2.53",
        "kaleidoscope",
        "zacharias",
    ];
    for (file, text) in &files {
        for original in originals {
            assert!(!text.contains(original), "{original} is in {file}: {text}");
        }
    }
    // The same is the same in every file.
    let running: toml::Table = files["configuration/running.toml"].parse().expect("TOML");
    let port = &running["network"]["lab"]["port"]["web"];
    let (mac, listen) =
        (port["mac"].as_str().expect("text"), port["stream"]["listen"].as_str().expect("text"));
    assert!(mac.starts_with("mac-") && listen.starts_with("path-"), "{port:?}");
    let ports: Value = serde_json::from_str(&files["ports.json"]).expect("JSON");
    let web =
        ports.as_array().and_then(|ports| ports.iter().find(|port| port["port"] == "web")).expect("the port");
    assert_eq!((web["mac"].as_str(), web["address"].as_str()), (Some(mac), Some(listen)));
    daemon.stop();
}

#[test]
fn without_a_daemon_the_rest_is_there_and_the_reason() {
    let directory = directory();
    let archive = directory.path().join("a.tar.gz");
    let output = support(&directory.path().join("none.sock"), &archive, &["--seconds", "0"]);
    succeeds(&output);
    assert!(output.stdout.contains("No daemon answers"), "{}", output.stdout);
    let files = unpack(&archive);
    assert!(files.contains_key("versions.txt") && files.contains_key("doctor.txt"), "{:?}", files.keys());
    assert!(!files.contains_key("ports.json"));
    assert!(files["README.txt"].contains("cannot reach vmlan at "), "{}", files["README.txt"]);
    let ports = files["README.txt"].lines().find(|line| line.starts_with("ports.json")).expect("a line");
    assert!(ports.contains("NOT HERE: no daemon answers"), "{ports}");
}

#[test]
fn a_daemon_that_does_not_answer_or_answers_without_end_does_not_hold_it_up() {
    let directory = directory();
    let silent = directory.path().join("silent.sock");
    let _listener = UnixListener::bind(&silent).expect("a socket");
    let archive = directory.path().join("silent.tar.gz");
    succeeds(&support(&silent, &archive, &["--seconds", "0", "--mask"]));
    let readme = &unpack(&archive)["README.txt"];
    assert!(
        readme.contains("did not answer in 3 seconds") && readme.contains("NOT HERE: no daemon answers"),
        "{readme}"
    );

    let endless = directory.path().join("endless.sock");
    let listener = UnixListener::bind(&endless).expect("a socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut octets = [b'['; 64 << 10];
                let _ = stream.read(&mut octets);
                octets.fill(b'[');
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n");
                // It ends when the client has enough.
                while stream.write_all(&octets).is_ok() {}
            });
        }
    });
    let archive = directory.path().join("endless.tar.gz");
    succeeds(&support(&endless, &archive, &["--seconds", "0"]));
    let readme = &unpack(&archive)["README.txt"];
    assert!(
        readme.lines().any(|line| line.starts_with("ports.json") && line.contains("NOT HERE")),
        "{readme}"
    );
}

#[test]
fn a_pipe_gets_the_archive_and_nothing_else() {
    let directory = directory();
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" support --control none.sock --seconds 0 -o - >it.tar.gz", VMLAN]);
    shell.current_dir(directory.path());
    succeeds(&testbed::run(shell, PATIENCE));
    assert!(unpack(&directory.path().join("it.tar.gz"))["README.txt"].contains("No daemon answers"));
    let refused = support(&directory.path().join("none.sock"), Path::new("-"), &["--json"]);
    assert!(refused.status.code() == Some(2) && refused.stderr.contains("name a file"), "{refused:?}");
}

#[test]
fn a_place_that_is_taken_is_left_as_it_is() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("taken"), "mine").expect("a file");
    symlink(path("nothing"), path("link")).expect("a link");
    for name in ["taken", "link"] {
        let output = support(&path("none.sock"), &path(name), &["--seconds", "0"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stderr.contains("is there already"), "{}", output.stderr);
    }
    assert_eq!(fs::read_to_string(path("taken")).expect("the file"), "mine");
    assert!(!path("nothing").exists());
}
