//! `vm` and `up`.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// A program in the daemon's directory.
fn program(daemon: &Daemon, name: &str, script: &str) -> String {
    crate::program::program(daemon.directory.path(), name, script)
}

#[test]
fn a_machine_gets_a_port_of_its_name_for_as_long_as_it_runs() {
    let daemon = Daemon::start();
    let qemu = program(&daemon, "qemu-system-x86_64", "exit 7");

    let output = daemon.vm(&["vm", "lab"], &[&qemu, "-m", "1G", "-name", "db"]);

    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let socket = daemon.directory.path().join("lab-db.sock");
    let said = text(&output.stdout);
    let expected = format!(
        "-m 1G -name db -netdev stream,id=vmlan0,server=off,addr.type=unix,addr.path={} -device \
         virtio-net-pci,netdev=vmlan0,mac=52:54:00:",
        socket.display()
    );
    assert!(said.starts_with(&expected), "{said}");
    let mac = said.trim_end().rsplit("mac=").next().expect("an address");
    let table = json!({"mac": mac, "stream": {"listen": socket}});
    assert_eq!(daemon.asked.recv().ok(), Some(format!("add lab db {table}")));
    assert_eq!(daemon.asked.recv().ok().as_deref(), Some("remove lab db"));
}

/// Memory that the user shares.
const SHARED: [&str; 4] =
    ["-object", "memory-backend-memfd,id=m,size=1G", "-machine", "q35,memory-backend=m"];

#[cfg(target_os = "linux")]
#[test]
fn a_machine_whose_memory_is_shared_is_joined_by_vhost_user() {
    let daemon = Daemon::start();
    let qemu = program(&daemon, "qemu-system-x86_64", "");
    let (chardev, netdev) =
        ("-chardev socket,id=vmlan0,path=", "-netdev vhost-user,id=vmlan0,chardev=vmlan0");
    let own = [&[&*qemu, "-m", "1G"], &SHARED[..]].concat();
    let plain = [&*qemu, "-m", "1G", "-machine", "q35"];
    let added =
        "-object memory-backend-memfd,id=vmlan-mem,size=1G,share=on -machine memory-backend=vmlan-mem";
    for (way, command, memory) in
        [("auto", &own[..], None), ("vhost-user", &own, None), ("vhost-user", &plain, Some(added))]
    {
        let output = daemon.vm(&["vm", "lab", "--attach", way], command);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = text(&output.stdout);
        let expected = [command[1..].join(" "), memory.unwrap_or_default().to_owned(), chardev.to_owned()];
        let expected = expected.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        assert!(said.starts_with(&expected) && said.contains(netdev), "{way}: {said}");
        assert!(text(&output.stderr).contains(", by vhost-user"), "{output:?}");
        let asked = daemon.asked.recv().expect("a request");
        assert!(asked.contains("\"vhost_user\":{\"listen\":"), "{asked}");
        assert_eq!(daemon.asked.recv().ok().as_deref(), Some("remove lab vm"));
    }
}

#[test]
fn a_machine_is_joined_by_a_socket_where_that_is_asked_for_or_its_memory_is_its_own() {
    let daemon = Daemon::start();
    let qemu = program(&daemon, "qemu-system-x86_64", "");
    let without = daemon.write("qemu-system-arm", "#!/bin/sh\necho stream\n");
    std::fs::set_permissions(&without, PermissionsExt::from_mode(0o755)).expect("a mode");
    let [ours, theirs] = [&qemu, &without].map(|program| [&[program.as_str()], &SHARED[..]].concat());
    for (way, command) in [
        ("socket", ours),
        ("auto", vec![&*qemu, "-m", "1G"]),
        (
            "auto",
            vec![&*qemu, "-object", "memory-backend-memfd,id=m,size=1G,share=off", "-M", "memory-backend=m"],
        ),
        ("auto", theirs),
    ] {
        let output = daemon.vm(&["vm", "lab", "--attach", way], &command);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let asked = daemon.asked.recv().expect("a request");
        assert!(asked.contains("\"stream\":{\"listen\":"), "{asked}");
        daemon.asked.recv().expect("a request");
    }
}

#[test]
fn a_name_that_is_taken_gets_a_number_and_the_only_network_needs_no_name() {
    let daemon = Daemon::start();
    let vfkit = program(&daemon, "vfkit", "");
    let output = daemon.vm(&["vm"], &[&vfkit, "--device", "virtio-blk,path=/srv/web.raw"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("lab-web-2.sock,mac="), "{output:?}");
    let asked = daemon.asked.recv().expect("a request");
    assert!(asked.starts_with("add lab web-2 {\"datagram\""), "{asked}");
}

#[test]
fn a_signal_is_passed_on_to_the_machine() {
    let daemon = Daemon::start();
    let qemu = program(
        &daemon,
        "qemu-system-x86_64",
        "trap 'exit 9' TERM\necho up >&2\nwhile :; do sleep 0.1; done",
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_vmlan"))
        .args(["--control", daemon.socket.to_str().expect("text"), "vm", "lab", "--", &qemu])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("vmlan can be run");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "up"));
    signal(&child, "TERM");
    assert_eq!(child.wait().expect("an end").code(), Some(9));
    let asked: Vec<_> = [daemon.asked.recv(), daemon.asked.recv()].into_iter().flatten().collect();
    assert_eq!(asked.last().map(String::as_str), Some("remove lab vm"));
}

#[test]
fn what_cannot_be_run_is_told_with_what_to_write() {
    let daemon = Daemon::start();
    let qemu = program(&daemon, "qemu-system-x86_64", "");
    let without = daemon.write("qemu-system-ppc", "#!/bin/sh\necho stream\n");
    std::fs::set_permissions(&without, PermissionsExt::from_mode(0o755)).expect("a mode");
    let old = daemon.write("qemu-system-arm", "#!/bin/sh\necho \"QEMU emulator version 6.2\"\n");
    std::fs::set_permissions(&old, PermissionsExt::from_mode(0o755)).expect("a mode");
    for (command, code, complaint) in [
        (&[&*qemu, "-nic", "user"][..], 2, "`-nic user` gives the machine a network already; leave it out"),
        (&["firecracker"], 2, "vmlan port add lab NAME interface name=TAP create=tap"),
        (&["bochs"], 2, "is not known here"),
        (
            &[&*old],
            1,
            "has no `-netdev stream`, which came with QEMU 7.2; it says of itself: QEMU emulator version 6.2",
        ),
        (&["/nonexistent/qemu-system-x86_64"], 1, "/nonexistent/qemu-system-x86_64 cannot be run"),
    ] {
        let output = daemon.vm(&["vm", "lab"], command);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(text(&output.stderr).contains(complaint), "{complaint}: {output:?}");
    }
    for (command, code, complaint) in [
        (&[&*qemu, "-M", "q35"][..], 2, "say how much it has, as `-m 1G`"),
        (&[&*qemu, "-m", "1G", "-mem-path", "/srv"], 2, "cannot be shared: `-mem-path`"),
        (&["vfkit"], 2, "only QEMU is joined by vhost-user"),
        (&[&*without, "-m", "1G"], 1, "was built without `-netdev vhost-user`"),
    ] {
        let output = daemon.vm(&["vm", "lab", "--attach", "vhost-user"], command);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(text(&output.stderr).contains(complaint), "{complaint}: {output:?}");
    }
    assert_eq!(daemon.asked.try_recv(), Err(mpsc::TryRecvError::Empty));
}

#[test]
fn up_runs_a_network_in_a_private_directory_until_a_signal() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_vmlan"))
        .args(["--control", directory.path().join("control.sock").to_str().expect("text"), "up", "den"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("vmlan can be run");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let own = directory.path().join("den");
    let first = lines.next().expect("a line");
    assert!(first.starts_with("network den: addresses 10.213."), "{first}");
    let said: Vec<_> = lines.by_ref().take_while(|line| line != "Ctrl-C ends it.").collect();
    let path = format!("addr.path={}/stream.sock", own.display());
    assert!(said.iter().any(|line| line.contains(&path)), "{said:?}");

    let mode = own.metadata().expect("the directory").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    for socket in ["stream.sock", "datagram.sock", "vde/ctl"] {
        assert!(own.join(socket).exists(), "{socket}");
    }
    signal(&child, "INT");
    let deadline = Instant::now() + DEADLINE;
    while child.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::yield_now();
    }
    assert!(child.wait().expect("an end").success());
    assert!(!own.exists(), "{:?}", own.read_dir().map(|entries| entries.flatten().collect::<Vec<_>>()));
}

#[test]
fn up_refuses_a_bad_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let control = directory.path().join("control.sock");
    for name in ["a.b", "a/b", ".."] {
        let output = vmlan(&["--control", control.to_str().expect("text"), "up", name]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains("is no name for a network"), "{output:?}");
    }
    assert_eq!(directory.path().read_dir().expect("a directory").count(), 0);
}

impl Daemon {
    /// Runs `vmlan ARGUMENTS -- COMMAND`.
    fn vm(&self, arguments: &[&str], command: &[&str]) -> Output {
        let socket = self.socket.to_str().expect("text");
        vmlan(&[arguments, &["--control", socket, "--"], command].concat())
    }
}

fn signal(child: &std::process::Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill can be run").success());
}
