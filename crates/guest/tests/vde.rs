//! Guests plugged into VDE switches: a small one made here, and Debian's `vde_switch`.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use support::{PATIENCE, eventually, exercise, ipv4, mac, spawn};
use vmlan_guest::client::VdeClient;
use vmlan_guest::{Attachment, Error, Ping, RawGuest, ethernet};

/// Octets of `struct sockaddr_un`, and of what precedes its path.
const ADDRESS: usize = if cfg!(target_os = "macos") { 106 } else { 110 };
const FAMILY: usize = 2;

/// A switch with two ports, which passes each frame to the other one.
struct PatchCable {
    controls: Vec<UnixStream>,
    sockets: Vec<Arc<UnixDatagram>>,
    threads: Vec<JoinHandle<()>>,
    descriptions: Vec<String>,
}

impl PatchCable {
    /// Takes the two clients that connect to `listener`.
    fn take_two(directory: &Path, listener: &UnixListener) -> PatchCable {
        let mut cable = PatchCable {
            controls: Vec::new(),
            sockets: Vec::new(),
            threads: Vec::new(),
            descriptions: Vec::new(),
        };
        for number in 0..2 {
            let (mut control, _) = listener.accept().unwrap();
            let mut request = vec![0; 512];
            let octets = control.read(&mut request).unwrap();
            request.truncate(octets);
            assert_eq!(request[..4], 0xfeed_face_u32.to_ne_bytes());
            assert_eq!(request[4..12], [3_u32.to_ne_bytes(), 0_u32.to_ne_bytes()].concat());
            cable.descriptions.push(String::from_utf8(request.split_off(12 + ADDRESS)).unwrap());
            let client = request[12 + FAMILY..].split(|&octet| octet == 0).next().unwrap();

            let own = directory.join(format!("port{number}"));
            let socket = UnixDatagram::bind(&own).unwrap();
            socket.connect(std::ffi::OsStr::from_bytes(client)).unwrap();
            let mut answer = request[12..].to_vec();
            answer[FAMILY..].fill(0);
            answer[FAMILY..][..own.as_os_str().len()].copy_from_slice(own.as_os_str().as_bytes());
            control.write_all(&answer).unwrap();
            cable.controls.push(control);
            cable.sockets.push(Arc::new(socket));
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let (from, to) = (cable.sockets[from].clone(), cable.sockets[to].clone());
            cable.threads.push(std::thread::spawn(move || {
                let mut frame = [0; 2048];
                while let Ok(octets) = from.recv(&mut frame)
                    && octets > 0
                {
                    // A client that is gone takes no more frames.
                    let _ = to.send(&frame[..octets]);
                }
            }));
        }
        cable
    }
}

impl Drop for PatchCable {
    fn drop(&mut self) {
        for socket in &self.sockets {
            socket.shutdown(Shutdown::Both).unwrap();
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

#[test]
fn over_a_switch_that_checks_the_handshake() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("ctl")).unwrap();
    let attachment = || Attachment::Vde { directory: directory.path().to_owned() };
    let (one, other, cable) = std::thread::scope(|scope| {
        let cable = scope.spawn(|| PatchCable::take_two(directory.path(), &listener));
        let (one, other) = (spawn(1, attachment()), spawn(2, attachment()));
        (one, other, cable.join().unwrap())
    });
    assert_eq!(cable.descriptions, ["guest1", "guest2"]);
    exercise(&one, &other);

    drop(cable);
    eventually("the port's removal is noticed", || one.ping(ipv4(2).into(), Ping::default()).is_err());
    let error = other.ping(ipv4(1).into(), Ping::default()).unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error}");
}

/// Connects a client to a switch that answers `answer` and hangs up, and returns the client's error.
fn connect_to(answer: &[u8]) -> std::io::Error {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("ctl")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut control, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            assert!(control.read(&mut request).unwrap() > 12 + ADDRESS);
            control.write_all(answer).unwrap();
        });
        let deadline = std::time::Instant::now() + PATIENCE;
        VdeClient::connect(directory.path(), 0, "test", deadline).err().unwrap()
    })
}

#[test]
fn a_switch_that_refuses_or_talks_nonsense_is_an_error() {
    let answers: [&[u8]; 4] = [b"", b"\x01", &[0xff; ADDRESS], &[0; ADDRESS]];
    for answer in answers {
        assert_eq!(connect_to(answer).kind(), std::io::ErrorKind::InvalidData, "{answer:?}");
    }
}

/// Debian's switch; it ends when its standard input does.
struct VdeSwitch {
    child: Child,
    directory: PathBuf,
}

impl VdeSwitch {
    /// None, said aloud, where it is not installed.
    fn start(directory: &Path) -> Option<VdeSwitch> {
        let directory = directory.join("switch");
        let child = Command::new("vde_switch")
            .arg("-sock")
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(VdeSwitch { child, directory }),
            Err(error) => {
                eprintln!("SKIPPED: vde_switch cannot be started ({error}); install Debian's package vde2");
                None
            }
        }
    }

    fn attachment(&self) -> Attachment {
        Attachment::Vde { directory: self.directory.clone() }
    }
}

impl Drop for VdeSwitch {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

#[test]
fn over_the_real_switch() {
    let directory = tempfile::tempdir().unwrap();
    let Some(switch) = VdeSwitch::start(directory.path()) else { return };
    let (one, other) = (spawn(1, switch.attachment()), spawn(2, switch.attachment()));
    exercise(&one, &other);

    let mut third = RawGuest::attach("third", switch.attachment(), PATIENCE).unwrap();
    let hello = ethernet(mac(1), mac(3), 0x88b5, b"hello");
    let received = one.counters().rx_frames;
    third.send_frame(&hello).unwrap();
    eventually("the third one's frame arrives", || one.counters().rx_frames > received);

    drop(switch);
    third.wait_closed().unwrap();
    eventually("the switch's end is noticed", || one.ping(ipv4(2).into(), Ping::default()).is_err());
}
