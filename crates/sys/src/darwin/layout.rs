//! Checks of the numbers and layouts here, made by a C compiler with the system's headers.

use std::fmt::Write;
use std::mem::offset_of;

use super::bpf;
use super::number::*;
use super::request::{Driver, Interface, Program};

/// A constant expression of C and its value.
#[derive(Clone, Copy, Debug)]
struct Fact(&'static str, u64);

/// Constants whose names are the same in C.
macro_rules! named {
    ($($name:ident)*) => { [$(Fact(stringify!($name), $name as u64),)*] };
}

const HEADERS: [&str; 11] = [
    "stddef.h",
    "sys/types.h",
    "sys/socket.h",
    "sys/ioctl.h",
    "sys/sockio.h",
    "sys/kern_control.h",
    "net/bpf.h",
    "net/if.h",
    "net/if_types.h",
    "net/if_utun.h",
    "net/net_kev.h",
];

const NAMED: [Fact; 41] = named! {
    BIOCGBLEN BIOCSBLEN BIOCSETF BIOCSETFNR BIOCPROMISC BIOCGDLT BIOCSETIF BIOCGSTATS BIOCIMMEDIATE BIOCVERSION
    BIOCSHDRCMPLT BIOCSSEESENT BPF_MAXINSNS DLT_EN10MB
    SIOCSIFFLAGS SIOCGIFFLAGS SIOCGIFMTU SIOCSIFMTU SIOCSIFLLADDR SIOCIFCREATE SIOCIFDESTROY SIOCSDRVSPEC SIOCGDRVSPEC
    KEV_INET_SUBCLASS KEV_DL_SUBCLASS KEV_INET6_SUBCLASS KEV_DL_SIFFLAGS KEV_DL_SIFMTU KEV_DL_IF_ATTACHED
    KEV_DL_IF_DETACHING KEV_DL_IF_DETACHED KEV_DL_LINK_OFF KEV_DL_LINK_ON KEV_DL_LINK_ADDRESS_CHANGED
    AF_LINK PF_SYSTEM IFT_ETHER IFT_L2VLAN IFT_BRIDGE
    CTLIOCGINFO UTUN_OPT_IFNAME
};

const LAYOUTS: [Fact; 28] = [
    Fact("sizeof(struct ifreq)", size_of::<Interface>() as u64),
    Fact("offsetof(struct ifreq, ifr_ifru)", 16),
    Fact("offsetof(struct ifreq, ifr_addr.sa_data)", 18),
    Fact("sizeof(struct ifdrv)", size_of::<Driver>() as u64),
    Fact("offsetof(struct ifdrv, ifd_cmd)", offset_of!(Driver, command) as u64),
    Fact("offsetof(struct ifdrv, ifd_len)", offset_of!(Driver, len) as u64),
    Fact("offsetof(struct ifdrv, ifd_data)", offset_of!(Driver, data) as u64),
    Fact("sizeof(struct bpf_program)", size_of::<Program>() as u64),
    Fact("offsetof(struct bpf_program, bf_len)", offset_of!(Program, len) as u64),
    Fact("offsetof(struct bpf_program, bf_insns)", offset_of!(Program, instructions) as u64),
    Fact("sizeof(struct bpf_insn)", size_of::<bpf::Instruction>() as u64),
    Fact("offsetof(struct bpf_insn, code)", offset_of!(bpf::Instruction, code) as u64),
    Fact("offsetof(struct bpf_insn, jt)", offset_of!(bpf::Instruction, jt) as u64),
    Fact("offsetof(struct bpf_insn, jf)", offset_of!(bpf::Instruction, jf) as u64),
    Fact("offsetof(struct bpf_insn, k)", offset_of!(bpf::Instruction, k) as u64),
    Fact("offsetof(struct bpf_hdr, bh_caplen)", bpf::CAPTURED as u64),
    Fact("offsetof(struct bpf_hdr, bh_datalen)", bpf::ORIGINAL as u64),
    Fact("offsetof(struct bpf_hdr, bh_hdrlen)", bpf::HEADER_LEN as u64),
    Fact("offsetof(struct bpf_hdr, bh_hdrlen) + sizeof(u_short)", bpf::HEADER as u64),
    Fact("BPF_ALIGNMENT", bpf::ALIGNMENT as u64),
    Fact("sizeof(struct bpf_stat)", 8),
    Fact("sizeof(struct bpf_version)", 4),
    // Of `macos/utun.rs`, which is not compiled everywhere.
    Fact("sizeof(struct ctl_info)", argument_octets(CTLIOCGINFO) as u64),
    Fact("offsetof(struct ctl_info, ctl_name)", 4),
    Fact("sizeof(struct sockaddr_ctl)", 32),
    Fact("offsetof(struct sockaddr_ctl, ss_sysaddr)", 2),
    Fact("offsetof(struct sockaddr_ctl, sc_id)", 4),
    Fact("offsetof(struct sockaddr_ctl, sc_unit)", 8),
];

/// Definitions that rest on documents alone: they are in no header that can be had without macOS.
const UNCHECKED: [&str; 4] = [
    "BIOCSNOTSTAMP, a private request of net/bpf.h",
    "sys/kern_event.h: kern_event_msg, net_event_data, kev_request, SIOCSKEVFILT, SYSPROTO_EVENT, KEV_VENDOR_APPLE, \
     KEV_NETWORK_CLASS",
    "net/if_fake_var.h: if_fake_request, IF_FAKE_S_CMD_SET_PEER",
    "net/if_bridgevar.h: ifbreq, ifbifconf, BRDGADD, BRDGDEL, BRDGGIFS",
];

/// A C program that compiles when the system's headers say the same as this module. Comments name what it cannot check.
pub fn program() -> String {
    let mut text = String::new();
    for header in HEADERS {
        let _ = writeln!(text, "#include <{header}>");
    }
    for Fact(expression, value) in NAMED.iter().chain(&LAYOUTS) {
        let _ = writeln!(
            text,
            "_Static_assert((unsigned long)({expression}) == {value:#x}ul, \"{expression}\");"
        );
    }
    for what in UNCHECKED {
        let _ = writeln!(text, "// not checked: {what}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_asserts_every_fact_once() {
        let text = program();
        assert_eq!(text.matches("_Static_assert").count(), NAMED.len() + LAYOUTS.len());
        assert_eq!(text.matches("// not checked: ").count(), UNCHECKED.len());
        assert!(text.contains("(unsigned long)(BIOCSETF) == 0x80104267ul"), "{text}");
    }
}
