use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};

use super::queue::Record;

/// Time is in units of 10^-9 s.
const NANOSECONDS: u8 = 9;

/// The values of epb_flags, bits 0 and 1 (pcapng 4.3.1).
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// How many frames of an interface there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// All of them (isb_ifrecv).
    All(u64),
    /// Those that the filter wanted (isb_filteraccept).
    Accepted(u64),
}

/// Writes the blocks of a pcapng file (draft-ietf-opsawg-pcapng), one interface for each link.
pub(super) struct Writer<W: Write> {
    file: PcapNgWriter<W>,
    snaplen: u32,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(output: W, snaplen: u32) -> io::Result<Writer<W>> {
        let application = Cow::Borrowed(concat!("vmlan ", env!("CARGO_PKG_VERSION")));
        let section = SectionHeaderBlock {
            // Wireshark takes no other from a pipe.
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(application)],
            ..SectionHeaderBlock::default()
        };
        let file = PcapNgWriter::with_section_header(output, section).map_err(into_io)?;
        Ok(Writer { file, snaplen })
    }

    /// Describes the next interface; the first one is number 0.
    pub(super) fn interface(&mut self, name: &str) -> io::Result<()> {
        self.block(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snaplen,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        })
    }

    pub(super) fn frame(&mut self, record: &Record, octets: &[u8]) -> io::Result<()> {
        let direction = if record.inbound { INBOUND } else { OUTBOUND };
        let mut options = vec![EnhancedPacketOption::Flags(direction)];
        if let Some(reason) = record.dropped {
            options.push(EnhancedPacketOption::Comment(Cow::Owned(format!("dropped: {reason}"))));
        }
        self.block(EnhancedPacketBlock {
            interface_id: record.interface,
            timestamp: Duration::from_nanos(record.time),
            original_len: record.length,
            data: Cow::Borrowed(octets),
            options,
        })
    }

    /// How many frames of an interface were seen until `now`, and how many of them are not in the file.
    pub(super) fn statistics(
        &mut self,
        interface: u32,
        now: Duration,
        seen: Seen,
        lost: u64,
    ) -> io::Result<()> {
        let seen = match seen {
            Seen::All(count) => InterfaceStatisticsOption::IsbIfRecv(count),
            Seen::Accepted(count) => InterfaceStatisticsOption::IsbFilterAccept(count),
        };
        let time = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        // The format has two words, the upper one first in either order of octets; the library writes one number.
        let mut words = [0; 8];
        words[..4].copy_from_slice(&((time >> 32) as u32).to_ne_bytes());
        words[4..].copy_from_slice(&(time as u32).to_ne_bytes());
        self.block(InterfaceStatisticsBlock {
            interface_id: interface,
            timestamp: u64::from_ne_bytes(words),
            options: vec![seen, InterfaceStatisticsOption::IsbIfDrop(lost)],
        })
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.get_mut().flush()
    }

    fn block<'a>(&mut self, block: impl PcapNgBlock<'a>) -> io::Result<()> {
        self.file.write_pcapng_block(block).map(drop).map_err(into_io)
    }
}

fn into_io(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
