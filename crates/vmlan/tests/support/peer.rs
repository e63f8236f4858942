use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use testbed::poll_until;
use vmlan_frame::MacAddr;
use vmlan_guest::{Attachment, RawGuest, ethernet};

use super::PATIENCE;

/// The EtherType of the frames of these tests (IEEE 802 local experimental).
pub const TYPE: u16 = 0x88b5;

/// How long silence has to last to be believed, when everything on the way there has been seen to work.
const SILENCE: Duration = Duration::from_millis(100);

static NEXT: AtomicU32 = AtomicU32::new(1);

/// The address of guest `number`.
pub fn mac(number: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, number])
}

/// A frame that carries a number.
pub fn numbered(to: MacAddr, from: MacAddr, number: u32) -> Vec<u8> {
    ethernet(to, from, TYPE, &number.to_be_bytes())
}

/// A guest without a stack, and its address.
pub struct Peer {
    pub raw: RawGuest,
    pub mac: MacAddr,
    /// True if frames are lost while the other end is away, as datagrams are.
    is_lossy: bool,
}

impl Peer {
    /// Attaches guest `number`.
    #[track_caller]
    pub fn attach(number: u8, attachment: Attachment) -> Peer {
        let is_lossy = !matches!(
            attachment,
            Attachment::Stream { .. } | Attachment::StreamListen { .. } | Attachment::StreamFd(_)
        );
        let raw = RawGuest::attach(&format!("guest{number}"), attachment, PATIENCE);
        Peer { raw: raw.unwrap_or_else(|error| panic!("{error:?}")), mac: mac(number), is_lossy }
    }

    /// Sends a frame with a number of its own to `to`, and answers the number.
    #[track_caller]
    pub fn send(&mut self, to: MacAddr) -> u32 {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.raw.send_frame(&numbered(to, self.mac, number)).expect("room for a frame");
        number
    }

    /// Waits for the frame with this number; true if it comes within `limit`. Frames before it are dropped.
    pub fn hears(&mut self, number: u32, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.raw.receive(left) {
                Ok(Some(frame))
                    if frame[12..14] == TYPE.to_be_bytes() && frame[14..18] == number.to_be_bytes() =>
                {
                    return true;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return false,
            }
        }
    }
}

/// One frame each way; both have to arrive.
#[track_caller]
pub fn exchange(one: &mut Peer, other: &mut Peer) {
    let (there, back) = (one.send(other.mac), other.send(one.mac));
    assert!(other.hears(there, PATIENCE), "{} does not hear {}", other.mac, one.mac);
    assert!(one.hears(back, PATIENCE), "{} does not hear {}", one.mac, other.mac);
}

/// Sends from one to the other until something arrives; answers whether it did within `limit`.
pub fn reach(one: &mut Peer, other: &mut Peer, limit: Duration) -> bool {
    let mut sent = Vec::new();
    poll_until(limit, || {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let frame = numbered(other.mac, one.mac, number);
        match one.is_lossy {
            true => drop(one.raw.try_send(&frame)),
            false => one.raw.send_frame(&frame).expect("a connection"),
        }
        sent.push(number);
        sent.iter().any(|number| other.hears(*number, Duration::ZERO)) || other.hears(number, SILENCE)
    })
}

/// Both reach each other by themselves.
#[track_caller]
pub fn meet(one: &mut Peer, other: &mut Peer) {
    assert!(reach(one, other, PATIENCE), "{} does not reach {}", one.mac, other.mac);
    assert!(reach(other, one, PATIENCE), "{} does not reach {}", other.mac, one.mac);
}

/// True if a broadcast of one peer does not arrive at the other, although both are attached.
pub fn is_apart(one: &mut Peer, other: &mut Peer) -> bool {
    let number = one.send(MacAddr::BROADCAST);
    !other.hears(number, SILENCE)
}
