use core::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;
use vmlan_frame::wire::{Headers, IpProtocol, Upper};

/// How many frames are remembered.
const REMEMBERED: usize = 256;

/// For how many seconds.
const MEMORY: u32 = 2;

/// The group frames that went to the wire lately. A frame that comes back as it went is recognised once; one whose
/// Ethernet header was changed on the way is not the same.
pub(crate) struct Echoes {
    seed: [u64; 2],
    /// A ring of hashes and seconds.
    sent: Box<[(u64, u32); REMEMBERED]>,
    next: usize,
}

impl Echoes {
    pub(crate) fn new(seed: [u64; 2]) -> Echoes {
        Echoes { seed, sent: Box::new([(0, 0); REMEMBERED]), next: 0 }
    }

    /// Remembers a frame that goes to the wire.
    pub(crate) fn sent(&mut self, octets: &[u8], now: u32) {
        self.sent[self.next] = (self.hash(octets), now);
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// True if a frame with these octets went to the wire lately. Forgets that frame, so it is recognised once.
    pub(crate) fn is_echo(&mut self, octets: &[u8], now: u32) -> bool {
        let hash = self.hash(octets);
        let found =
            self.sent.iter_mut().find(|(sent, at)| *sent == hash && now.saturating_sub(*at) <= MEMORY);
        found.map(|sent| *sent = (0, 0)).is_some()
    }

    /// Of all octets but the UDP checksum, which the way out may have finished. Never 0.
    fn hash(&self, octets: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.seed[0], self.seed[1]);
        let cut = match Headers::parse(octets).upper {
            Upper::Header { protocol: IpProtocol::UDP, offset } => offset + 6,
            _ => octets.len(),
        };
        let (before, after) = octets.split_at(cut.min(octets.len()));
        before.hash(&mut hasher);
        after.get(2..).hash(&mut hasher);
        hasher.finish() | 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_recognised_once_and_for_a_while() {
        let mut echoes = Echoes::new([1, 2]);
        let (a, b) = ([1; 60], [2; 60]);
        echoes.sent(&a, 10);
        assert!(!echoes.is_echo(&b, 10));
        assert!(echoes.is_echo(&a, 12) && !echoes.is_echo(&a, 12));
        echoes.sent(&a, 12);
        assert!(!echoes.is_echo(&a, 15));
    }

    #[test]
    fn the_latest_are_remembered() {
        let mut echoes = Echoes::new([1, 2]);
        (0..=REMEMBERED as u32).for_each(|n| echoes.sent(&n.to_be_bytes(), 0));
        assert!(!echoes.is_echo(&0u32.to_be_bytes(), 0));
        assert!((1..=REMEMBERED as u32).all(|n| echoes.is_echo(&n.to_be_bytes(), 0)));
    }

    #[test]
    fn a_finished_udp_checksum_makes_no_difference() {
        let mut octets = [0; 60];
        octets[12..15].copy_from_slice(&[0x08, 0, 0x45]);
        octets[16..18].copy_from_slice(&40u16.to_be_bytes());
        octets[23] = 17;
        octets[38..40].copy_from_slice(&20u16.to_be_bytes());
        let mut echoes = Echoes::new([1, 2]);
        echoes.sent(&octets, 0);
        octets[40] = 0x12;
        assert!(echoes.is_echo(&octets, 0));
        echoes.sent(&octets, 0);
        octets[42] = 1;
        assert!(!echoes.is_echo(&octets, 0));
    }
}
