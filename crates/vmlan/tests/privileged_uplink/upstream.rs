//! A DNS server of the internet that says what it is asked, and remembers it.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use testbed::Netns;

use crate::lab::{at, listen, udp};

/// Ends with its guard.
pub struct Upstream {
    end: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Upstream {
    /// A server at this address, port 53, whose answers have this address.
    pub fn new(netns: &Netns, address: &str, answer: [u8; 4]) -> Upstream {
        let socket = udp(netns, &at(address, 53).to_string());
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let listener = listen(netns, &at(address, 53).to_string());
        listener.set_nonblocking(true).expect("a socket");
        let (end, asked) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let datagrams = {
            let (end, asked) = (end.clone(), asked.clone());
            move || serve(&socket, &end, &asked, answer)
        };
        let streams = {
            let end = end.clone();
            move || serve_streams(&listener, &end, answer)
        };
        let threads = vec![std::thread::spawn(datagrams), std::thread::spawn(streams)];
        Upstream { end, asked, threads }
    }

    /// The questions so far, whole messages.
    pub fn asked(&self) -> Vec<Vec<u8>> {
        self.asked.lock().expect("no panic").clone()
    }

    /// The number of questions for this name so far; of labels without dots.
    pub fn asked_for(&self, label: &str) -> usize {
        let holds = |message: &&Vec<u8>| message.windows(label.len()).any(|part| part == label.as_bytes());
        self.asked().iter().filter(holds).count()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn serve(socket: &UdpSocket, end: &AtomicBool, asked: &Mutex<Vec<Vec<u8>>>, answer: [u8; 4]) {
    let mut buffer = [0; 4096];
    while !end.load(Ordering::Relaxed) {
        let Ok((octets, from)) = socket.recv_from(&mut buffer) else { continue };
        let question = buffer[..octets].to_vec();
        // A guest's message that is no question makes the server say nothing.
        let said = respond(&question, answer, false);
        asked.lock().expect("no panic").push(question);
        if let Some(said) = said {
            // The asker may be gone.
            let _ = socket.send_to(&said, from);
        }
    }
}

fn serve_streams(listener: &TcpListener, end: &AtomicBool, answer: [u8; 4]) {
    while !end.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let mut one = || -> std::io::Result<()> {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question)?;
            let said = respond(&question, answer, true).unwrap_or_default();
            stream.write_all(&(said.len() as u16).to_be_bytes())?;
            stream.write_all(&said)
        };
        // The asker may be gone.
        let _ = one();
    }
}

/// An answer with an A record, which has the records behind the question again; none for names that begin with
/// `silent`. For names that begin with `large` it says by UDP that it has to be asked by TCP.
pub fn respond(question: &[u8], answer: [u8; 4], by_tcp: bool) -> Option<Vec<u8>> {
    let names_end = 12 + question.get(12..)?.iter().position(|octet| *octet == 0)? + 1;
    let end = names_end + 4;
    let name = &question[13..end];
    if name.starts_with(b"silent") {
        return None;
    }
    let truncated = name.starts_with(b"large") && !by_tcp;
    let mut said = question[..2].to_vec();
    said.extend([0x81 | if truncated { 2 } else { 0 }, 0x80, 0, 1, 0, u8::from(!truncated), 0, 0, 0]);
    said.push(question[11]);
    said.extend(question.get(12..end)?);
    if !truncated {
        said.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        said.extend(answer);
    }
    said.extend(&question[end..]);
    Some(said)
}
