//! The blocks of a pcapng file that arrives in pieces.

use pcap_file::PcapError;
use pcap_file::pcapng::{Block, PcapNgParser};

/// Octets of a block at most; a frame has fewer than 256 KiB.
const LONGEST: usize = 1 << 20;

/// The stream is no pcapng file, or not one of the daemon's.
#[derive(Debug, thiserror::Error)]
pub enum BadStream {
    /// A block is malformed.
    #[error("what arrives is no pcapng file")]
    Block(#[source] PcapError),
    /// A block is longer than any that the daemon sends.
    #[error("a block of the file is longer than {LONGEST} octets")]
    TooLong,
}

/// Takes pieces and gives blocks.
#[derive(Default)]
pub struct Blocks {
    /// None before the first block.
    parser: Option<PcapNgParser>,
    octets: Vec<u8>,
    /// Octets of blocks that were given.
    done: usize,
}

/// A block, and the octets that it is made of.
pub struct Piece<'a> {
    pub octets: &'a [u8],
    /// None for the section header.
    pub block: Option<Block<'a>>,
}

impl Blocks {
    /// Appends a piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.octets.drain(..self.done);
        self.done = 0;
        self.octets.extend_from_slice(piece);
    }

    /// The next whole block, if it is there.
    pub fn next(&mut self) -> Result<Option<Piece<'_>>, BadStream> {
        let octets = &self.octets[self.done..];
        let parsed = match &mut self.parser {
            None => PcapNgParser::new(octets).map(|(rest, parser)| {
                self.parser = Some(parser);
                (rest, None)
            }),
            Some(parser) => parser.next_block(octets).map(|(rest, block)| (rest, Some(block))),
        };
        match parsed {
            Ok((rest, block)) => {
                let len = octets.len() - rest.len();
                self.done += len;
                Ok(Some(Piece { octets: &octets[..len], block }))
            }
            Err(PcapError::IncompleteBuffer) if octets.len() > LONGEST => Err(BadStream::TooLong),
            Err(PcapError::IncompleteBuffer) => Ok(None),
            Err(error) => Err(BadStream::Block(error)),
        }
    }

    /// True if the last block has arrived whole.
    pub fn is_whole(&self) -> bool {
        self.parser.is_some() && self.done == self.octets.len()
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::PcapNgWriter;
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
    use pcap_file::{DataLink, Endianness};

    use super::*;

    fn file() -> Vec<u8> {
        let mut writer = PcapNgWriter::with_endianness(Vec::new(), Endianness::Big).expect("memory");
        let interface =
            InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options: vec![] };
        writer.write_pcapng_block(interface).expect("memory");
        for len in [60, 1514] {
            let data = vec![7; len].into();
            let packet = EnhancedPacketBlock {
                interface_id: 0,
                timestamp: std::time::Duration::ZERO,
                original_len: len as u32,
                data,
                options: vec![],
            };
            writer.write_pcapng_block(packet).expect("memory");
        }
        writer.into_inner()
    }

    #[test]
    fn however_it_is_cut_the_blocks_are_the_same() {
        let file = file();
        for size in [1, 7, 100, file.len()] {
            let (mut blocks, mut together, mut count) = (Blocks::default(), Vec::new(), 0);
            for piece in file.chunks(size) {
                blocks.push(piece);
                while let Some(piece) = blocks.next().expect("a good file") {
                    together.extend_from_slice(piece.octets);
                    count += 1;
                }
            }
            assert!(blocks.is_whole() && together == file, "{size}");
            assert_eq!(count, 4, "{size}");
        }
    }

    #[test]
    fn a_file_that_breaks_off_is_not_whole() {
        let mut blocks = Blocks::default();
        blocks.push(&file()[..70]);
        while blocks.next().expect("a good file").is_some() {}
        assert!(!blocks.is_whole());
    }

    #[test]
    fn what_is_no_file_is_an_error() {
        let mut blocks = Blocks::default();
        blocks.push(b"HTTP/1.1 200 OK\r\n\r\n");
        assert!(blocks.next().is_err());
        let mut endless = file();
        endless.extend_from_slice(&[0, 0, 0, 6, 0x7f, 0xff, 0xff, 0xfc]);
        let mut blocks = Blocks::default();
        blocks.push(&endless);
        while blocks.next().expect("good blocks before").is_some() {}
        blocks.push(&vec![0; LONGEST]);
        assert!(matches!(blocks.next(), Err(BadStream::TooLong)));
    }
}
