use std::os::fd::AsRawFd;

use super::*;
use crate::{netdev, netns, packet};

const OPTIONS: Options = Options { chunk: 2048, receive: 8, send: 4 };

/// A socket on the loopback interface of a namespace of its own, and a packet socket that sees what passes there. None
/// without the right to that.
fn socket() -> Option<(Socket, OwnedFd)> {
    let namespace = netns::create().ok()?;
    let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let made = netns::within(path.as_ref(), || {
        netdev::set_up("lo")?;
        // The loopback interface is the first of every namespace.
        let socket = Socket::open(OPTIONS)?;
        socket.bind(1, 0, true)?;
        Ok((socket, packet::listener(1, &[(6, 0, 0, u32::MAX)])?))
    });
    Some(made.expect("a socket"))
}

fn frame(number: u8) -> Vec<u8> {
    [&[0; 12][..], &[0x88, 0xb5], &[number; 50]].concat()
}

#[test]
fn what_is_queued_is_sent_and_chunks_come_back() {
    let Some((mut socket, listener)) = socket() else { return };
    assert!(!socket.is_zero_copy().unwrap());
    for round in 0..10 {
        assert_eq!(socket.room(), 4, "round {round}");
        for number in 0..4 {
            assert!(socket.send(64, |place| place.copy_from_slice(&frame(number))));
        }
        assert!(!socket.send(64, |_| ()), "no chunk is left");
        assert_eq!(socket.unsent(), 4);
        socket.wake().unwrap();
        assert_eq!(socket.unsent(), 0);
        for number in 0..4 {
            let mut buffer = [0; 100];
            let arrived = rustix::io::read(&listener, &mut buffer).unwrap();
            assert_eq!(buffer[packet::HEADER..arrived], frame(number));
        }
    }
    assert!(!socket.send(OPTIONS.chunk + 1, |_| ()), "longer than a chunk");
}

#[test]
fn nothing_is_received_where_no_program_redirects() {
    let Some((mut socket, _)) = socket() else { return };
    assert_eq!(socket.waiting(), None);
    assert_eq!(socket.receive(&mut [0; 64]), 0);
    socket.release().unwrap();
}

#[test]
fn entries_outside_the_chunks_for_receiving_are_none() {
    let Some((socket, _)) = socket() else { return };
    let place = |addr, len| {
        socket.place(&libc::xdp_desc { addr, len, options: 0 }).map(|(number, _, len)| (number, len))
    };
    assert_eq!(place(0, 2048), Some((0, 2048)));
    assert_eq!(place(3 * 2048 + 256, 60), Some((3, 60)));
    for (addr, len) in
        [(0, 2049), (2047, 2), (8 * 2048, 60), (u64::MAX, 1), (u64::MAX - 2047, 2048), (0, u32::MAX)]
    {
        assert_eq!(place(addr, len), None, "{addr} {len}");
    }
}

#[test]
fn a_queue_has_one_socket() {
    let Some(namespace) = netns::create().ok() else { return };
    let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let told = netns::within(path.as_ref(), || {
        let sockets = [Socket::open(OPTIONS)?, Socket::open(OPTIONS)?];
        sockets[0].bind(1, 0, true)?;
        let errors = [(1, 0), (1, 1), (7, 0)].map(|(index, queue)| sockets[1].bind(index, queue, true));
        Ok(errors.map(|result| result.unwrap_err().raw_os_error()))
    });
    assert_eq!(told.unwrap(), [libc::EBUSY, libc::EINVAL, libc::ENODEV].map(Some));
}
