use core::marker::PhantomData;

use super::Malformed;
use super::field::{put, u16_at};

const TYPE: usize = 0;
const CODE: usize = 1;
const CHECKSUM: usize = 2;
const IDENTIFIER: usize = 4;
const SEQUENCE: usize = 6;

/// The type of a message of one version of ICMP: [`Icmpv4Type`](super::Icmpv4Type) or
/// [`Icmpv6Type`](super::Icmpv6Type).
pub trait IcmpType: Copy + Eq {
    /// Octets that all messages have.
    const LEAST: usize;
    /// Echo request.
    const ECHO_REQUEST: Self;
    /// Echo reply.
    const ECHO_REPLY: Self;

    /// The type with this number.
    fn new(number: u8) -> Self;

    /// The type's number.
    fn number(self) -> u8;
}

/// A view of a message of either ICMP: [`Icmpv4Packet`](super::Icmpv4Packet) or [`Icmpv6Packet`](super::Icmpv6Packet).
/// The octets end where the IP packet does.
#[derive(Debug, Clone, Copy)]
pub struct IcmpPacket<T, M> {
    pub(super) octets: T,
    version: PhantomData<M>,
}

impl<T: AsRef<[u8]>, M: IcmpType> IcmpPacket<T, M> {
    /// Checks that what all messages have is there: the 8 octets of ICMP's header, or ICMPv6's type, code and checksum.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] below 8 octets of ICMP, or 4 of ICMPv6.
    #[inline]
    pub fn new_checked(octets: T) -> Result<Self, Malformed> {
        if octets.as_ref().len() < M::LEAST {
            return Err(Malformed::Truncated);
        }
        Ok(IcmpPacket { octets, version: PhantomData })
    }

    /// The octets back.
    #[inline]
    pub fn into_inner(self) -> T {
        self.octets
    }

    /// Returns the type of the message.
    #[inline]
    pub fn message_type(&self) -> M {
        M::new(self.octets.as_ref()[TYPE])
    }

    /// Returns the code of the message, which says more exactly than the type what it is.
    #[inline]
    pub fn code(&self) -> u8 {
        self.octets.as_ref()[CODE]
    }

    /// The checksum as sent.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.octets.as_ref(), CHECKSUM)
    }

    /// The fields of an echo request or reply, else nothing; the data starts 8 octets into the message.
    #[inline]
    pub fn echo(&self) -> Option<EchoRepr> {
        let message_type = self.message_type();
        let reply = message_type == M::ECHO_REPLY;
        let octets = self.octets.as_ref();
        if !reply && message_type != M::ECHO_REQUEST || octets.len() < EchoRepr::HEADER_LEN {
            return None;
        }
        Some(EchoRepr { reply, identifier: u16_at(octets, IDENTIFIER), sequence: u16_at(octets, SEQUENCE) })
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>, M: IcmpType> IcmpPacket<T, M> {
    /// Sets what the message is; the checksum is left as it was.
    #[inline]
    pub fn set_message_type(&mut self, message_type: M) {
        self.octets.as_mut()[TYPE] = message_type.number();
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put(self.octets.as_mut(), CHECKSUM, &checksum.to_be_bytes());
    }
}

/// The fields of an ICMP or ICMPv6 echo message (RFC 792, RFC 4443 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoRepr {
    /// A reply, else a request.
    pub reply: bool,
    /// Tells one `ping` from another.
    pub identifier: u16,
    /// Counts the requests of one `ping`.
    pub sequence: u16,
}

impl EchoRepr {
    /// Octets that the header takes; the data follows.
    pub const HEADER_LEN: usize = 8;

    /// Writes the header but for its checksum, and returns the message, whose data is there.
    ///
    /// # Panics
    /// If `octets` is shorter than 8.
    pub(super) fn emit<'a, M: IcmpType>(&self, octets: &'a mut [u8]) -> IcmpPacket<&'a mut [u8], M> {
        let message_type = if self.reply { M::ECHO_REPLY } else { M::ECHO_REQUEST };
        octets[TYPE] = message_type.number();
        octets[CODE] = 0;
        put(octets, IDENTIFIER, &self.identifier.to_be_bytes());
        put(octets, SEQUENCE, &self.sequence.to_be_bytes());
        IcmpPacket { octets, version: PhantomData }
    }
}
