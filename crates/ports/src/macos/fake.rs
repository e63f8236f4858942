//! A system that is made up.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;
use vmlan_frame::MacAddr;
use vmlan_sys::darwin::InterfaceName;

use super::{Interface, Kernel};

/// Copies share one system.
#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    pub interfaces: BTreeMap<InterfaceName, Device>,
    pub bridges: BTreeMap<InterfaceName, BTreeSet<InterfaceName>>,
    /// The call, counted from 0 on, that fails, and how.
    pub failing: Option<(usize, Errno)>,
    calls: usize,
}

#[derive(Default)]
pub(super) struct Device {
    pub mac: Option<MacAddr>,
    pub mtu: u32,
    pub is_up: bool,
    pub peer: Option<InterfaceName>,
}

pub(super) fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text).unwrap()
}

impl Fake {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn add_bridge(&self, bridge: &str, mtu: u32) {
        let mut state = self.state();
        state.interfaces.insert(name(bridge), Device { mtu, ..Device::default() });
        state.bridges.insert(name(bridge), BTreeSet::new());
    }

    pub(super) fn add_interface(&self, interface: &str, mac: Option<MacAddr>) {
        self.state().interfaces.insert(name(interface), Device { mac, mtu: 1500, ..Device::default() });
    }

    pub(super) fn remove(&self, interface: &str) {
        let mut state = self.state();
        state.interfaces.remove(&name(interface));
        state.bridges.remove(&name(interface));
        state.forget_member(name(interface));
    }

    pub(super) fn feths(&self) -> Vec<InterfaceName> {
        let is_feth = |name: &InterfaceName| name.as_str().starts_with("feth");
        self.state().interfaces.keys().copied().filter(is_feth).collect()
    }

    pub(super) fn calls(&self) -> usize {
        self.state().calls
    }

    /// Counts a call, which may be the one that fails.
    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.calls += 1;
        match state.failing {
            Some((number, error)) if number + 1 == state.calls => Err(error.into()),
            _ => Ok(state),
        }
    }
}

impl State {
    fn forget_member(&mut self, name: InterfaceName) {
        self.bridges.values_mut().for_each(|members| members.retain(|member| *member != name));
    }

    fn device(&mut self, name: InterfaceName) -> io::Result<&mut Device> {
        self.interfaces.get_mut(&name).ok_or_else(|| Errno::NXIO.into())
    }
}

impl Kernel for Fake {
    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let state = self.call()?;
        let interface = |(&name, device): (&InterfaceName, &Device)| Interface {
            name,
            mac: device.mac,
            is_ethernet: device.mac.is_some(),
        };
        Ok(state.interfaces.iter().map(interface).collect())
    }

    fn mtu(&self, name: InterfaceName) -> io::Result<u32> {
        Ok(self.call()?.device(name)?.mtu)
    }

    fn set_up(&self, name: InterfaceName) -> io::Result<()> {
        self.call()?.device(name)?.is_up = true;
        Ok(())
    }

    fn create_feth(&self) -> io::Result<InterfaceName> {
        let mut state = self.call()?;
        let free = (0..).map(|unit| name(&format!("feth{unit}")));
        let name = { free }.find(|name| !state.interfaces.contains_key(name)).expect("names enough");
        state.interfaces.insert(name, Device { mtu: 1500, ..Device::default() });
        Ok(name)
    }

    fn prepare_feth(&self, name: InterfaceName, mac: MacAddr, mtu: u32) -> io::Result<()> {
        let mut state = self.call()?;
        let device = state.device(name)?;
        (device.mac, device.mtu) = (Some(mac), mtu);
        Ok(())
    }

    fn pair_feths(&self, one: InterfaceName, other: InterfaceName) -> io::Result<()> {
        let mut state = self.call()?;
        state.device(one)?.peer = Some(other);
        state.device(other)?.peer = Some(one);
        Ok(())
    }

    fn destroy_feth(&self, name: InterfaceName) -> io::Result<()> {
        // Never the call that fails: what it undoes would be left over.
        let mut state = self.state();
        state.device(name)?;
        state.interfaces.remove(&name);
        state.forget_member(name);
        Ok(())
    }

    fn members(&self, bridge: InterfaceName) -> io::Result<Vec<InterfaceName>> {
        let mut state = self.call()?;
        state.device(bridge)?;
        let members = state.bridges.get(&bridge).ok_or(Errno::OPNOTSUPP)?;
        Ok(members.iter().copied().collect())
    }

    fn join(&self, bridge: InterfaceName, member: InterfaceName) -> io::Result<()> {
        let mut state = self.call()?;
        let wanted = state.device(bridge)?.mtu;
        let Ok(device) = state.device(member) else { return Err(Errno::NOENT.into()) };
        if device.mtu != wanted {
            return Err(Errno::INVAL.into());
        }
        if state.bridges.values().any(|members| members.contains(&member)) {
            return Err(Errno::BUSY.into());
        }
        state.bridges.get_mut(&bridge).expect("a bridge").insert(member);
        Ok(())
    }
}
