use crate::PortId;

/// When each port was last reported, so that it is once a second at most.
#[derive(Default)]
pub(crate) struct Told {
    /// By slot: the port and the second.
    ports: Vec<Option<(PortId, u32)>>,
}

impl Told {
    /// True if the port was not reported in the second `now` yet; notes it as reported.
    #[cold]
    pub(crate) fn may_tell(&mut self, port: PortId, now: u32) -> bool {
        if self.ports.len() <= port.slot() {
            self.ports.resize(port.slot() + 1, None);
        }
        self.ports[port.slot()].replace((port, now)) != Some((port, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_second() {
        let mut told = Told::default();
        let port = PortId::new(3, 0);
        assert_eq!([5, 5, 6].map(|now| told.may_tell(port, now)), [true, false, true]);
        assert!(told.may_tell(port.successor(), 6) && told.may_tell(PortId::new(0, 0), 6));
    }
}
