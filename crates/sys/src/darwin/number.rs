//! Request numbers of ioctl(2) and constants, by name as in the system's headers.
//!
//! Source: sys/ioccom.h, net/bpf.h, sys/sockio.h, sys/kern_control.h, sys/kern_event.h, net/net_kev.h, net/if_types.h.

#![allow(missing_docs, reason = "the names are the interface's; groups have a comment")]

use super::request::{Driver, Interface};

/// Which way a request copies its argument, seen from the process (IOC_VOID, IOC_OUT, IOC_IN, IOC_INOUT).
#[derive(Clone, Copy)]
#[repr(u32)]
enum Way {
    None = 0x2000_0000,
    FromKernel = 0x4000_0000,
    ToKernel = 0x8000_0000,
    Both = 0xc000_0000,
}

/// Octets of the argument that the kernel copies for `request`.
pub const fn argument_octets(request: u64) -> usize {
    (request >> 16 & 0x1fff) as usize
}

/// A request number: the way, 13 bits for the octets of the argument, a letter for the group, a number in it.
const fn request(way: Way, group: u8, number: u8, octets: usize) -> u64 {
    assert!(octets <= 0x1fff, "an argument of a request has at most 8191 octets");
    way as u64 | (octets as u64) << 16 | (group as u64) << 8 | number as u64
}

const INT: usize = size_of::<u32>();
const INTERFACE: usize = size_of::<Interface>();
const DRIVER: usize = size_of::<Driver>();
const PROGRAM: usize = size_of::<super::request::Program>();

// The packet filter's device, net/bpf.h.
pub const BIOCGBLEN: u64 = request(Way::FromKernel, b'B', 102, INT);
pub const BIOCSBLEN: u64 = request(Way::Both, b'B', 102, INT);
pub const BIOCSETF: u64 = request(Way::ToKernel, b'B', 103, PROGRAM);
pub const BIOCPROMISC: u64 = request(Way::None, b'B', 105, 0);
pub const BIOCGDLT: u64 = request(Way::FromKernel, b'B', 106, INT);
pub const BIOCSETIF: u64 = request(Way::ToKernel, b'B', 108, INTERFACE);
pub const BIOCGSTATS: u64 = request(Way::FromKernel, b'B', 111, 2 * INT);
pub const BIOCIMMEDIATE: u64 = request(Way::ToKernel, b'B', 112, INT);
pub const BIOCVERSION: u64 = request(Way::FromKernel, b'B', 113, INT);
pub const BIOCSHDRCMPLT: u64 = request(Way::ToKernel, b'B', 117, INT);
pub const BIOCSSEESENT: u64 = request(Way::ToKernel, b'B', 119, INT);
pub const BIOCSETFNR: u64 = request(Way::ToKernel, b'B', 126, PROGRAM);
// Private, of the same device: a kernel that does not know it answers EINVAL.
pub const BIOCSNOTSTAMP: u64 = request(Way::ToKernel, b'B', 145, INT);
/// The most instructions of a filter.
pub const BPF_MAXINSNS: usize = 512;
/// Ethernet, the answer of [`BIOCGDLT`].
pub const DLT_EN10MB: u32 = 1;

// Interfaces, sys/sockio.h.
pub const SIOCSIFFLAGS: u64 = request(Way::ToKernel, b'i', 16, INTERFACE);
pub const SIOCGIFFLAGS: u64 = request(Way::Both, b'i', 17, INTERFACE);
pub const SIOCGIFMTU: u64 = request(Way::Both, b'i', 51, INTERFACE);
pub const SIOCSIFMTU: u64 = request(Way::ToKernel, b'i', 52, INTERFACE);
pub const SIOCSIFLLADDR: u64 = request(Way::ToKernel, b'i', 60, INTERFACE);
pub const SIOCIFCREATE: u64 = request(Way::Both, b'i', 120, INTERFACE);
pub const SIOCIFDESTROY: u64 = request(Way::ToKernel, b'i', 121, INTERFACE);
pub const SIOCSDRVSPEC: u64 = request(Way::ToKernel, b'i', 123, DRIVER);
pub const SIOCGDRVSPEC: u64 = request(Way::Both, b'i', 123, DRIVER);

// Kernel events, sys/kern_event.h.
pub const SIOCSKEVFILT: u64 = request(Way::ToKernel, b'e', 2, 3 * INT);
pub const KEV_VENDOR_APPLE: u32 = 1;
pub const KEV_NETWORK_CLASS: u32 = 1;
pub const KEV_INET_SUBCLASS: u32 = 1;
pub const KEV_DL_SUBCLASS: u32 = 2;
pub const KEV_INET6_SUBCLASS: u32 = 6;
pub const KEV_DL_SIFFLAGS: u32 = 1;
pub const KEV_DL_SIFMTU: u32 = 3;
pub const KEV_DL_IF_ATTACHED: u32 = 9;
pub const KEV_DL_IF_DETACHING: u32 = 10;
pub const KEV_DL_IF_DETACHED: u32 = 11;
pub const KEV_DL_LINK_OFF: u32 = 12;
pub const KEV_DL_LINK_ON: u32 = 13;
pub const KEV_DL_LINK_ADDRESS_CHANGED: u32 = 16;

// Tunnels, sys/kern_control.h and net/if_utun.h.
pub const CTLIOCGINFO: u64 = request(Way::Both, b'N', 3, 100);
pub const UTUN_OPT_IFNAME: u32 = 2;

// Address families, sys/socket.h.
pub const AF_LINK: u8 = 18;
pub const PF_SYSTEM: u8 = 32;
pub const SYSPROTO_EVENT: u32 = 1;

// Kinds of interfaces, net/if_types.h.
pub const IFT_ETHER: u8 = 0x06;
pub const IFT_L2VLAN: u8 = 0x87;
pub const IFT_BRIDGE: u8 = 0xd1;

// Commands of the drivers: net/if_fake_var.h and net/if_bridgevar.h, which are private.
pub const IF_FAKE_S_CMD_SET_PEER: u64 = 1;
pub const BRDGADD: u64 = 0;
pub const BRDGDEL: u64 = 1;
pub const BRDGGIFS: u64 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_its_argument() {
        assert_eq!(argument_octets(SIOCGIFFLAGS), 32);
        assert_eq!(argument_octets(SIOCSDRVSPEC), 40);
        assert_eq!(argument_octets(BIOCPROMISC), 0);
    }

    #[test]
    fn request_numbers_are_those_of_the_headers() {
        let cases = [
            (BIOCGBLEN, 0x4004_4266),
            (BIOCSBLEN, 0xc004_4266),
            (BIOCSETF, 0x8010_4267),
            (BIOCSETFNR, 0x8010_427e),
            (BIOCPROMISC, 0x2000_4269),
            (BIOCGDLT, 0x4004_426a),
            (BIOCSETIF, 0x8020_426c),
            (BIOCGSTATS, 0x4008_426f),
            (BIOCIMMEDIATE, 0x8004_4270),
            (BIOCVERSION, 0x4004_4271),
            (BIOCSHDRCMPLT, 0x8004_4275),
            (BIOCSSEESENT, 0x8004_4277),
            (BIOCSNOTSTAMP, 0x8004_4291),
            (SIOCSIFFLAGS, 0x8020_6910),
            (SIOCGIFFLAGS, 0xc020_6911),
            (SIOCGIFMTU, 0xc020_6933),
            (SIOCSIFMTU, 0x8020_6934),
            (SIOCSIFLLADDR, 0x8020_693c),
            (SIOCIFCREATE, 0xc020_6978),
            (SIOCIFDESTROY, 0x8020_6979),
            (SIOCSDRVSPEC, 0x8028_697b),
            (SIOCGDRVSPEC, 0xc028_697b),
            (SIOCSKEVFILT, 0x800c_6502),
            (CTLIOCGINFO, 0xc064_4e03),
        ];
        for (number, expected) in cases {
            assert_eq!(number, expected, "{number:#x} is not {expected:#x}");
        }
    }
}
