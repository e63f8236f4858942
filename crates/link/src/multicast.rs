//! Multicast groups that a link receives.
//!
//! A membership counts how often it was joined. The memberships of a link with a unique id outlive its detach,
//! suspended: the driver hears of them again with the first frame after the link is back.

use crate::chain::SUSPENDED;
use crate::link::Settings;
use crate::{Address, Error, Link, LinkAddress};

pub(crate) struct Membership {
    group: LinkAddress,
    joined: u32,
}

impl Link {
    /// How many groups a link is a member of at most.
    pub const MAX_GROUPS: usize = 1024;

    /// The link address of a group: the protocol answers first; the medium then verifies its answer, or, when the
    /// protocol had none, answers itself. `None` where the medium has no link addresses.
    ///
    /// # Errors
    /// `ENXIO` when the link is not attached, `EINVAL` when this is no group; else the protocol's.
    pub fn resolve_multicast(&self, group: &Address) -> Result<Option<LinkAddress>, Error> {
        let _inside = self.io_ref().ok_or(Error::NotAttached)?;
        let chain = self.chain();
        let usage = chain.protocol(group.family()).and_then(|slot| slot.enter(self));
        let answer = match &usage {
            Some(usage) => usage.slot.protocol.resolve_multicast(group),
            None => Err(Error::OperationNotSupported),
        };
        match answer {
            Ok(address) => chain
                .media
                .check_multicast(&Address::Link(address))
                .map(|verified| verified.or(Some(address))),
            Err(Error::OperationNotSupported) => chain.media.check_multicast(group),
            Err(error) => Err(error),
        }
    }

    /// Joins a group once more.
    ///
    /// # Errors
    /// `ENXIO` when the link is not attached, `ENOBUFS` beyond [`Link::MAX_GROUPS`]; what the medium says to it.
    pub fn join_multicast(&self, group: LinkAddress) -> Result<(), Error> {
        let _inside = self.io_ref().ok_or(Error::NotAttached)?;
        self.chain().media.check_multicast(&Address::Link(group))?;
        {
            let mut settings = self.record().settings();
            if let Some(membership) =
                settings.multicasts.iter_mut().find(|membership| membership.group == group)
            {
                membership.joined = membership.joined.saturating_add(1);
                return Ok(());
            }
            if settings.multicasts.len() >= Link::MAX_GROUPS {
                return Err(Error::NoBuffers);
            }
            settings.multicasts.push(Membership { group, joined: 1 });
            settings.groups_changed = true;
        }
        self.tell_groups();
        Ok(())
    }

    /// Leaves a group as often as it was joined.
    ///
    /// # Errors
    /// `ENXIO` when the link is not attached, `EINVAL` when it is no member.
    pub fn leave_multicast(&self, group: LinkAddress) -> Result<(), Error> {
        let _inside = self.io_ref().ok_or(Error::NotAttached)?;
        {
            let mut settings = self.record().settings();
            let at = settings.multicasts.iter().position(|membership| membership.group == group);
            let at = at.ok_or(Error::InvalidArgument)?;
            settings.multicasts[at].joined -= 1;
            if settings.multicasts[at].joined > 0 {
                return Ok(());
            }
            settings.multicasts.remove(at);
            settings.groups_changed = true;
        }
        self.tell_groups();
        Ok(())
    }

    /// The groups that the link is a member of.
    pub fn multicasts(&self) -> Vec<LinkAddress> {
        self.record().settings().groups()
    }

    /// Tells the driver of the memberships, unless it knows them. Of several threads one tells, and what changes
    /// meanwhile it tells as well, so the driver hears of the changes in their order and last of the last one.
    fn tell_groups(&self) {
        /// Ends telling, also when the hook panics.
        struct Told<'a>(&'a Link);
        impl Drop for Told<'_> {
            fn drop(&mut self) {
                self.0.record().settings().telling_groups = false;
            }
        }
        loop {
            let groups = {
                let mut settings = self.record().settings();
                if settings.telling_groups || !core::mem::take(&mut settings.groups_changed) {
                    return;
                }
                settings.telling_groups = true;
                settings.groups()
            };
            let _told = Told(self);
            self.chain().driver.set_multicasts(&groups);
        }
    }

    /// Tells the driver of the memberships that the link had before it was attached again.
    #[cold]
    pub(crate) fn restore_multicasts(&self) {
        self.record().gate.set_flags(SUSPENDED, 0);
        self.tell_groups();
    }
}

impl Settings {
    fn groups(&self) -> Vec<LinkAddress> {
        self.multicasts.iter().map(|membership| membership.group).collect()
    }
}
