//! A capture as text: a line a frame, as it comes.

use pcap_file::pcapng::Block;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;

use super::summary::summary;

/// Octets of a frame that a line needs.
pub const SNAPLEN: u64 = 256;

/// epb_flags: what bits 0 and 1 say of a frame that was received from the guest (pcapng 4.3.1).
const INBOUND: u32 = 1;

/// Turns blocks into lines.
#[derive(Default)]
pub struct Listing {
    /// The names of the interfaces that were described so far.
    names: Vec<String>,
}

impl Listing {
    /// The line of a frame; nothing for other blocks.
    pub fn line(&mut self, block: &Block<'_>) -> Option<String> {
        match block {
            Block::InterfaceDescription(interface) => {
                let name = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.escape_debug().to_string()),
                    _ => None,
                });
                self.names.push(name.unwrap_or_default());
                None
            }
            Block::EnhancedPacket(packet) => Some(self.frame(packet)),
            _ => None,
        }
    }

    /// `TIME  PORT  rx|tx  ADDRESSES  CONTENT, LENGTH octets  (dropped: REASON)`.
    fn frame(&self, packet: &EnhancedPacketBlock<'_>) -> String {
        let (mut direction, mut comment) = ("tx", String::new());
        for option in &packet.options {
            match option {
                EnhancedPacketOption::Flags(flags) if flags & 3 == INBOUND => direction = "rx",
                EnhancedPacketOption::Comment(text) => comment = format!("  ({})", text.escape_debug()),
                _ => {}
            }
        }
        let seconds = packet.timestamp.as_secs() % 86_400;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let nanoseconds = packet.timestamp.subsec_nanos();
        let port = self.names.get(packet.interface_id as usize).map_or("?", String::as_str);
        let length = packet.original_len;
        let content = summary(&packet.data, length as usize);
        format!(
            "{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}  {port}  {direction}  {content}, {length} octets{comment}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::time::Duration;

    use pcap_file::DataLink;
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;

    use super::*;

    fn packet(options: Vec<EnhancedPacketOption<'static>>) -> Block<'static> {
        let mut data = vec![0; 60];
        data[..12].copy_from_slice(&[0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1]);
        data[12..14].copy_from_slice(&[0x88, 0xb5]);
        Block::EnhancedPacket(EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::new(20_000 * 86_400 + 3 * 3600 + 4 * 60 + 5, 6),
            original_len: 60,
            data: data.into(),
            options,
        })
    }

    #[test]
    fn a_line_has_time_port_direction_content_length_and_reason() {
        let mut listing = Listing::default();
        let options = vec![InterfaceDescriptionOption::IfName("lab/web".into())];
        let interface = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options };
        assert_eq!(listing.line(&Block::InterfaceDescription(interface)), None);

        let line = listing.line(&packet(vec![EnhancedPacketOption::Flags(1)]));
        let addresses = "52:54:00:00:00:01 > 52:54:00:00:00:02";
        let expected = format!("03:04:05.000000006  lab/web  rx  {addresses}  type 0x88b5, 60 octets\n");
        assert_eq!(line, Some(expected));

        let comment = EnhancedPacketOption::Comment(Cow::Borrowed("dropped: queue\x1b_full"));
        let line = listing.line(&packet(vec![EnhancedPacketOption::Flags(2), comment])).expect("a line");
        assert!(line.contains("  tx  ") && line.ends_with("(dropped: queue\\u{1b}_full)\n"), "{line}");
    }
}
