//! Arguments of requests: the structures that the kernel copies in and out.

use super::InterfaceName;
use super::number::AF_LINK;

/// About one interface (net/if.h, struct ifreq): its name and 16 octets that each request reads its own way.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface {
    name: [u8; 16],
    value: [u8; 16],
}

const _: () = assert!(size_of::<Interface>() == 32);

impl Interface {
    /// About the interface `name`, with no value.
    pub const fn new(name: InterfaceName) -> Interface {
        Interface { name: *name.octets(), value: [0; 16] }
    }

    /// With flags (IFF_UP and others).
    pub fn with_flags(mut self, flags: i16) -> Interface {
        self.value[..2].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    /// With a number: an MTU.
    pub fn with_number(mut self, number: i32) -> Interface {
        self.value[..4].copy_from_slice(&number.to_ne_bytes());
        self
    }

    /// With a MAC address, as [`SIOCSIFLLADDR`](super::number::SIOCSIFLLADDR) wants it: in a `sockaddr` of 2 octets
    /// for length and family and 14 for the address, where the length is that of the address.
    pub fn with_mac(mut self, mac: [u8; 6]) -> Interface {
        self.value[..2].copy_from_slice(&[6, AF_LINK]);
        self.value[2..8].copy_from_slice(&mac);
        self
    }

    /// The name that the kernel wrote, when it is one.
    pub fn name(&self) -> Option<InterfaceName> {
        InterfaceName::from_field(&self.name)
    }

    /// The flags that the kernel wrote.
    pub fn flags(&self) -> i16 {
        i16::from_ne_bytes([self.value[0], self.value[1]])
    }

    /// The number that the kernel wrote.
    pub fn number(&self) -> i32 {
        i32::from_ne_bytes([self.value[0], self.value[1], self.value[2], self.value[3]])
    }
}

/// For the driver of an interface (net/if.h, struct ifdrv): a command and memory for its argument.
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct Driver {
    /// The interface.
    pub name: [u8; 16],
    /// The driver's command.
    pub command: u64,
    /// Octets of the argument.
    pub len: u64,
    /// The argument's address.
    pub data: u64,
}

const _: () = {
    assert!(size_of::<Driver>() == 40);
    assert!(std::mem::offset_of!(Driver, command) == 16);
    assert!(std::mem::offset_of!(Driver, len) == 24);
    assert!(std::mem::offset_of!(Driver, data) == 32);
};

/// A filter program for the packet filter's device (net/bpf.h, struct bpf_program).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Program {
    /// How many instructions.
    pub len: u32,
    /// Their address.
    pub instructions: u64,
}

const _: () = assert!(size_of::<Program>() == 16 && std::mem::offset_of!(Program, instructions) == 8);

/// About one member of a bridge (net/if_bridgevar.h, struct ifbreq, packed to 4).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    name: [u8; 16],
    flags: u32,
    stp_flags: u32,
    path_cost: u32,
    port: u8,
    priority: u8,
    proto: u8,
    role: u8,
    state: u8,
    pad: [u8; 3],
    address_count: u32,
    address_max: u32,
    address_exceeded: u32,
    reserved: [u8; 32],
}

const _: () = {
    assert!(size_of::<Member>() == 80);
    assert!(std::mem::offset_of!(Member, flags) == 16);
    assert!(std::mem::offset_of!(Member, stp_flags) == 20);
    assert!(std::mem::offset_of!(Member, path_cost) == 24);
    assert!(std::mem::offset_of!(Member, port) == 28);
    assert!(std::mem::offset_of!(Member, priority) == 29);
    assert!(std::mem::offset_of!(Member, proto) == 30);
    assert!(std::mem::offset_of!(Member, role) == 31);
    assert!(std::mem::offset_of!(Member, state) == 32);
    assert!(std::mem::offset_of!(Member, address_count) == 36);
    assert!(std::mem::offset_of!(Member, address_max) == 40);
    assert!(std::mem::offset_of!(Member, address_exceeded) == 44);
    assert!(std::mem::offset_of!(Member, reserved) == 48);
};

impl Member {
    /// No member; to be filled by the kernel.
    pub const NONE: Member = Member {
        name: [0; 16],
        flags: 0,
        stp_flags: 0,
        path_cost: 0,
        port: 0,
        priority: 0,
        proto: 0,
        role: 0,
        state: 0,
        pad: [0; 3],
        address_count: 0,
        address_max: 0,
        address_exceeded: 0,
        reserved: [0; 32],
    };

    /// The member `name`.
    pub const fn new(name: InterfaceName) -> Member {
        Member { name: *name.octets(), ..Member::NONE }
    }

    /// The name that the kernel wrote, when it is one.
    pub fn name(&self) -> Option<InterfaceName> {
        InterfaceName::from_field(&self.name)
    }
}

/// Memory for a bridge's members (net/if_bridgevar.h, struct ifbifconf, packed to 4).
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
pub struct Members {
    /// Octets of the memory; the kernel writes how many it used.
    pub len: u32,
    /// The memory's address.
    pub data: u64,
}

const _: () = assert!(size_of::<Members>() == 12 && std::mem::offset_of!(Members, data) == 4);

/// For a feth interface (net/if_fake_var.h, struct if_fake_request).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fake {
    reserved: [u64; 4],
    peer: [u8; 16],
    rest: [u8; 112],
}

const _: () = assert!(size_of::<Fake>() == 160 && std::mem::offset_of!(Fake, peer) == 32);

impl Fake {
    /// With the other end of a pair; none takes the pair apart.
    pub fn peer(name: Option<InterfaceName>) -> Fake {
        let peer = name.map_or([0; 16], |name| *name.octets());
        Fake { reserved: [0; 4], peer, rest: [0; 112] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> InterfaceName {
        InterfaceName::new(text).unwrap()
    }

    #[test]
    fn an_interface_request_keeps_its_name_and_value() {
        let request = Interface::new(name("feth0"));
        assert_eq!(request.name(), Some(name("feth0")));
        assert_eq!(request.with_flags(0x43).flags(), 0x43);
        assert_eq!(request.with_number(9000).number(), 9000);
        assert_eq!(&request.with_mac([1, 2, 3, 4, 5, 6]).value[..9], [6, 18, 1, 2, 3, 4, 5, 6, 0]);
    }

    #[test]
    fn a_name_from_the_kernel_is_checked() {
        let request = Interface { name: [0xff; 16], value: [0; 16] };
        assert_eq!(request.name(), None);
        assert_eq!(Member::NONE.name(), None);
    }

    #[test]
    fn requests_to_drivers_name_the_other_interface() {
        assert_eq!(Member::new(name("feth1")).name(), Some(name("feth1")));
        assert_eq!(&Fake::peer(Some(name("feth1"))).peer, name("feth1").octets());
        assert_eq!(Fake::peer(None).peer, [0; 16]);
    }
}
