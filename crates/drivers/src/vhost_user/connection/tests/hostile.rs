//! Front ends that break the rules, slowly or in masses.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::RecvTimeoutError;

use rustix::net::sockopt;
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

use super::*;

/// Waits until no descriptor of this process is the socket with this inode: closing it has begun, or is over.
fn wait_for_close(inode: u64) {
    let socket = format!("socket:[{inode}]");
    let is_open = || {
        let mut descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        // Others come and go meanwhile.
        descriptors
            .any(|entry| std::fs::read_link(entry.unwrap().path()).is_ok_and(|to| to.as_os_str() == &*socket))
    };
    testbed::wait_until("the descriptor to be closed", SOON, || !is_open());
}

#[test]
fn case_34_descriptors_that_are_no_eventfds_end_the_connection() {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
    let (socket, _other) = UnixStream::pair().unwrap();
    for (kind, descriptor) in [(Kind::SetVringCall, socket.into()), (Kind::SetVringKick, timer)] {
        let mut front_end = FrontEnd::new();
        front_end.accept();
        front_end.share(&memfd(MEMORY));
        front_end.send(Kind::SetVringNum, &words(&[0, NUM]), &[]);
        front_end.send(Kind::SetVringAddr, &[words(&[0, 0]), longs(&[USER; 4])].concat(), &[]);
        front_end.send(kind, &longs(&[0]), &[&descriptor]);
        assert!(front_end.violation().contains("eventfd"));
    }
}

#[test]
fn case_35_strays_are_closed_and_end_the_connection_the_second_time() {
    let mut front_end = FrontEnd::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let strays = vec![theirs.as_fd(); 253];
    front_end.send_octets(&message(1, 1, &[]), &strays);
    assert_eq!(front_end.receive().len(), 8);
    front_end.send_octets(&message(1, 1, &[]), &strays[..1]);
    assert!(front_end.violation().contains("not for the first time"));
    drop(theirs);
    // All of them are closed.
    ours.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    front_end.wait_for_threads(0);
}

#[test]
fn case_35_a_descriptor_that_is_slow_to_close_does_not_delay_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (unread, _) = listener.accept().unwrap();
    slow.set_nonblocking(true).unwrap();
    while (&slow).write(&[0; 65_536]).is_ok() {}
    slow.set_nonblocking(false).unwrap();
    sockopt::set_socket_linger(&slow, Some(Duration::from_secs(600))).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    // SetStatus, which was not offered.
    send_octets(&ours, &message(39, 1, &[0; 8]), &[slow.as_fd()]);
    let inode = rustix::fs::fstat(&slow).unwrap().st_ino;
    // The one in the message is the last one.
    drop(slow);
    let front_end = FrontEnd::over(ours, theirs, |_| {});
    front_end.violation();
    // It is a number no more, and the thread cannot be done with it before what it sent is read.
    wait_for_close(inode);
    assert_eq!(front_end.lingering.count(), 1);
    drop((unread, listener));
    front_end.wait_for_threads(0);
}

#[test]
fn case_36_a_message_may_come_slowly_but_not_too_slowly() {
    let octets = message(1, 1, &[]);
    for (pause, is_served) in [(20, true), (250, false)] {
        let mut front_end = FrontEnd::new();
        for octet in &octets {
            front_end.send_octets(&[*octet], &[]);
            thread::sleep(Duration::from_millis(pause));
        }
        if is_served {
            assert_eq!(front_end.receive().len(), 8);
        } else {
            assert!(front_end.violation().contains("half sent"));
        }
    }
}

#[test]
fn case_37_and_41_messages_that_cannot_be_end_the_connection() {
    for octets in [
        message(1, 2, &[]),
        message(1, 1 | 4, &[]),
        [words(&[2, 1, 5000]), vec![0; 5000]].concat(),
        message(18, 1, &words(&[255, 1])),
        message(39, 1, &longs(&[0])),
        message(13, 1, &longs(&[0])),
    ] {
        let mut front_end = FrontEnd::new();
        front_end.send_octets(&octets, &[]);
        front_end.violation();
        // What was not read may make it a reset.
        assert!(matches!(front_end.socket.read(&mut [0]), Ok(0) | Err(_)));
        front_end.wait_for_threads(0);
    }
}

#[test]
fn a_front_end_that_takes_no_answers_is_left() {
    let front_end = FrontEnd::new();
    let many: Vec<u8> = (0..8000).flat_map(|_| message(1, 1, &[])).collect();
    front_end.socket.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let deadline = Instant::now() + SOON;
    let fault = loop {
        assert!(Instant::now() < deadline, "it goes on");
        sent += (&front_end.socket).write(&many[sent % HEADER..]).unwrap_or(0);
        match front_end.reports.recv_timeout(Duration::from_millis(10)) {
            Ok(Report::Ended(fault)) => break fault,
            Ok(Report::State(_)) | Err(RecvTimeoutError::Timeout) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert!(fault.to_string().contains("took no answer"), "{fault:?}");
}

#[test]
fn case_26_changes_of_started_rings_have_a_rate() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    let start = Instant::now();
    for toggle in 0..DISTURBANCES.1 + 50 {
        front_end.send(Kind::SetVringEnable, &words(&[0, toggle & 1]), &[]);
    }
    front_end.ask_whether(Kind::SetVringEnable, &words(&[0, 1]));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(150), "{took:?}");
}

#[test]
fn case_26_starts_of_started_rings_have_the_same_rate() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    let (start, kick) = (Instant::now(), event());
    for _ in 0..DISTURBANCES.1 + 50 {
        front_end.send(Kind::SetVringKick, &longs(&[0]), &[&kick]);
    }
    front_end.ask_whether(Kind::SetVringEnable, &words(&[0, 1]));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(150), "{took:?}");
}
