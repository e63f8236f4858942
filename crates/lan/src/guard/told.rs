use vmlan_frame::SecondaryMap;

use crate::PortId;

/// When each port was last reported, so that it is once a second at most.
#[derive(Default)]
pub(crate) struct Told {
    seconds: SecondaryMap<PortId, u32>,
}

impl Told {
    /// True if the port was not reported in the second `now` yet; notes it as reported.
    #[cold]
    pub(crate) fn may_tell(&mut self, port: PortId, now: u32) -> bool {
        self.seconds.insert(port, now) != Some((port, now))
    }
}

#[cfg(test)]
mod tests {
    use vmlan_frame::SlotKey;

    use super::*;

    #[test]
    fn once_a_second() {
        let mut told = Told::default();
        let port = PortId::new(3, 0);
        assert_eq!([5, 5, 6].map(|now| told.may_tell(port, now)), [true, false, true]);
        assert!(told.may_tell(port.successor(), 6) && told.may_tell(PortId::new(0, 0), 6));
    }
}
