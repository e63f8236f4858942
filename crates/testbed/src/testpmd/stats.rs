//! The counters of testpmd's ports.

/// The counters of one port, of all its queues. A driver counts a frame as sent when it is in a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Frames that found no room, of a back end.
    pub rx_missed: u64,
    /// Frames that were wrong.
    pub rx_errors: u64,
    /// Times that there was no buffer to receive into.
    pub rx_nombuf: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Octets received, without FCS.
    pub rx_bytes: u64,
    /// Octets sent, without FCS.
    pub tx_bytes: u64,
}

/// The rates of one port since testpmd was asked for counters the last time, by testpmd's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRates {
    /// Frames received in a second.
    pub rx_packets: u64,
    /// Frames sent in a second.
    pub tx_packets: u64,
}

/// Reads the answer to `show port stats all`: makes something of the numbers of each port, which it asks for by name.
fn read<T>(answer: &str, make: impl Fn(&dyn Fn(&str) -> u64) -> T) -> Vec<T> {
    let of_port = |part: &str| {
        let words: Vec<&str> = part.split_whitespace().collect();
        let value = |name: &str| {
            let place = words.iter().position(|word| *word == name)?;
            words.get(place + 1)?.parse().ok()
        };
        make(&|name| value(name).unwrap_or_else(|| panic!("testpmd says nothing of {name} {part}")))
    };
    answer.split("NIC statistics for port").skip(1).map(of_port).collect()
}

impl PortRates {
    pub(super) fn parse(answer: &str) -> Vec<Self> {
        read(answer, |number| Self { rx_packets: number("Rx-pps:"), tx_packets: number("Tx-pps:") })
    }
}

impl PortStats {
    pub(super) fn parse(answer: &str) -> Vec<Self> {
        read(answer, |number| Self {
            rx_packets: number("RX-packets:"),
            rx_missed: number("RX-missed:"),
            rx_errors: number("RX-errors:"),
            rx_nombuf: number("RX-nombuf:"),
            tx_packets: number("TX-packets:"),
            tx_errors: number("TX-errors:"),
            rx_bytes: number("RX-bytes:"),
            tx_bytes: number("TX-bytes:"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_has_its_numbers() {
        let answer = "show port stats all\n\n  ######################## NIC statistics for port 0  ###########\n  \
                      RX-packets: 90336      RX-missed: 1          RX-bytes:  5420160\n  RX-errors: 2\n  \
                      RX-nombuf:  3         \n  TX-packets: 90240      TX-errors: 4          TX-bytes:  5414400\n\n  \
                      Throughput (since last show)\n  Rx-pps:            8          Rx-bps:            0\n  \
                      Tx-pps:            9          Tx-bps:            0\n  \
                      ######################## NIC statistics for port 1  ###########\n  \
                      RX-packets: 7          RX-missed: 0          RX-bytes:  0\n  RX-errors: 0\n  \
                      RX-nombuf:  0         \n  TX-packets: 0      TX-errors: 0          TX-bytes:  0\n  \
                      Rx-pps:            1          Rx-bps:            0\n  \
                      Tx-pps:            2          Tx-bps:            0\n";

        let ports = PortStats::parse(answer);
        let rates = PortRates::parse(answer)
            .iter()
            .map(|rates| (rates.rx_packets, rates.tx_packets))
            .collect::<Vec<_>>();

        let first = PortStats {
            rx_packets: 90_336,
            rx_missed: 1,
            rx_errors: 2,
            rx_nombuf: 3,
            tx_packets: 90_240,
            tx_errors: 4,
            rx_bytes: 5_420_160,
            tx_bytes: 5_414_400,
        };
        assert_eq!(ports, [first, PortStats { rx_packets: 7, ..PortStats::default() }]);
        assert_eq!(rates, [(8, 9), (1, 2)]);
    }
}
