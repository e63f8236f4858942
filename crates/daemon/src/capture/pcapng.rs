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

/// Writes the blocks of a pcapng file (draft-ietf-opsawg-pcapng), one interface for each link.
pub(super) struct Writer<W: Write> {
    file: PcapNgWriter<W>,
    snaplen: u32,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(output: W, snaplen: u32) -> io::Result<Writer<W>> {
        let application = Cow::Borrowed(concat!("vmlan ", env!("CARGO_PKG_VERSION")));
        let section = SectionHeaderBlock {
            // Times are two words, the upper one first in either order. The library writes that of the statistics as
            // one number, which is right in this order only.
            endianness: Endianness::Big,
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
        self.block(EnhancedPacketBlock {
            interface_id: record.interface,
            timestamp: Duration::from_nanos(record.time),
            original_len: record.length,
            data: Cow::Borrowed(octets),
            options: vec![EnhancedPacketOption::Flags(direction)],
        })
    }

    /// How many frames of an interface were seen until `now`, and how many of them are not in the file.
    pub(super) fn statistics(
        &mut self,
        interface: u32,
        now: Duration,
        seen: u64,
        lost: u64,
    ) -> io::Result<()> {
        self.block(InterfaceStatisticsBlock {
            interface_id: interface,
            timestamp: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            options: vec![
                InterfaceStatisticsOption::IsbIfRecv(seen),
                InterfaceStatisticsOption::IsbIfDrop(lost),
            ],
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
