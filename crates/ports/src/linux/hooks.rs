//! Where the programs of mode `filter` hang: on the interface's own hooks where the kernel has those ("tcx", Linux
//! 6.6), else on filters of traffic control.
//!
//! A program on an own hook is held by a descriptor and leaves the interface with the process, however that ends;
//! unless it has a name ([`Names`]), which holds it too. A filter stays until somebody removes it: it has a priority of
//! ours ([`PRIORITIES`]) and a name of ours ([`PREFIX`]), by which the next daemon finds what a killed one left. The
//! `clsact` qdisc that filters hang on is used when it is there, and removed at the end only when it was made here and
//! nobody else hangs on it; a qdisc has no name, so the filters' names say whether it was ([`QDISC`]).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use vmlan_api::TrunkHooks;
use vmlan_sys::ebpf::{Hook, Link, classifiers_at, load_classifier};

use crate::apart::Apart;
use crate::describe;
use crate::kernel::{Filter, Interface, Kernel, KernelError, Rule};

/// The priorities of our filters, of which the first is in use. It comes before what most hosts have, since a filter of
/// the host's that ends the search would keep frames from guests.
const PRIORITIES: std::ops::RangeInclusive<u16> = 20..=24;

/// The prefix of the names of our programs.
const PREFIX: &str = "vmlan_";

/// The suffix of the names of our filters when the qdisc was made for them, so that it may be removed with them.
const QDISC: &str = "+qdisc";

/// Which hooks are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Tcx,
    Clsact,
}

/// A program on a hook.
struct Placed {
    program: OwnedFd,
    name: &'static str,
    /// The link that holds the program on its hook; a filter has none.
    link: Option<Link>,
}

/// The hooks of an interface, with what hangs there of ours.
pub(crate) struct Hooks {
    way: Way,
    /// By hook.
    placed: [Option<Placed>; 2],
    /// True if the qdisc is ours.
    made_qdisc: bool,
    /// Names for the links.
    names: Option<Names>,
}

/// Names in the BPF file system for the links of an interface, by hook, which keep the programs there when the process
/// is killed. They go when this does.
pub(crate) struct Names(pub(crate) [PathBuf; 2]);

impl Names {
    fn at(&self, hook: Hook) -> &Path {
        &self.0[hook as usize]
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = std::fs::remove_file(name);
        }
    }
}

impl Hooks {
    /// The hooks of a TAP that is ours, with `program` on what comes in from it. Which hooks there are shows here.
    pub(crate) async fn of_device(
        kernel: &Kernel,
        index: u32,
        wanted: TrunkHooks,
        (name, program): (&'static str, OwnedFd),
    ) -> Result<Hooks, Apart> {
        let mut hooks = Hooks { way: Way::Tcx, placed: [None, None], made_qdisc: false, names: None };
        if wanted != TrunkHooks::Clsact {
            match Link::new(&program, index, Hook::Ingress) {
                Ok(link) => {
                    hooks.placed[0] = Some(Placed { program, name, link: Some(link) });
                    return Ok(hooks);
                }
                Err(error) if wanted == TrunkHooks::Tcx => {
                    return Err(Apart::Refused(format!(
                        "this kernel puts no program on an interface's own hooks: {error}; write `hooks = \"auto\"`, which \
                         makes do with clsact"
                    )));
                }
                Err(_) => {}
            }
        }
        hooks.way = Way::Clsact;
        kernel.add_hooks(index).await?;
        let rule = Rule { hook: Hook::Ingress, priority: *PRIORITIES.start(), name };
        kernel.put_filter(index, rule, None, &program).await?;
        hooks.placed[0] = Some(Placed { program, name, link: None });
        Ok(hooks)
    }

    /// The hooks of the trunk's interface, without anything of a killed daemon's.
    pub(crate) async fn of_interface(
        kernel: &Kernel,
        interface: &Interface,
        way: Way,
    ) -> Result<Hooks, KernelError> {
        sweep(kernel, interface).await?;
        Ok(Hooks { way, placed: [None, None], made_qdisc: false, names: None })
    }

    pub(crate) fn way(&self) -> Way {
        self.way
    }

    /// Gives the links names as they are made. What has the names already is taken over when it is on this interface.
    pub(crate) fn named(self, names: Option<Names>) -> Hooks {
        Hooks { names, ..self }
    }

    /// Puts a program on a hook, in the place of the one that is there.
    pub(crate) async fn put(
        &mut self,
        kernel: &Kernel,
        interface: &Interface,
        hook: Hook,
        (name, program): (&'static str, OwnedFd),
    ) -> Result<(), Apart> {
        let link = self.placed[hook as usize].take().and_then(|placed| placed.link);
        let at = self.names.as_ref().map(|names| names.at(hook));
        let link = link.or_else(|| at.and_then(|at| inherited(at, interface, hook)));
        let placed = self.placed[hook as usize].insert(Placed { program, name, link });
        match self.way {
            Way::Tcx => link_to(placed, interface, hook, at),
            Way::Clsact => {
                self.made_qdisc |= add_qdisc(kernel, interface).await?;
                let present = kernel.filters(interface.index).await?;
                filter_with(kernel, interface, (hook, placed), self.made_qdisc, &present).await
            }
        }
    }

    /// True if somebody else has to do with frames that go out by the interface: a program, a filter or a queueing
    /// discipline.
    pub(crate) async fn are_shared_on_the_way_out(
        &self,
        kernel: &Kernel,
        interface: &Interface,
    ) -> Result<bool, KernelError> {
        if interface.has_queue {
            return Ok(true);
        }
        let linked = self.placed[Hook::Egress as usize].as_ref().is_some_and(|placed| placed.link.is_some());
        // A kernel without such hooks has none of anybody's there.
        if classifiers_at(interface.index, Hook::Egress).unwrap_or(0) > u32::from(linked) {
            return Ok(true);
        }
        let filters = kernel.filters(interface.index).await?;
        Ok(filters.iter().any(|filter| filter.hook == Hook::Egress && !is_ours(filter)))
    }

    /// Puts back what somebody took away.
    pub(crate) async fn repair(&mut self, kernel: &Kernel, interface: &Interface) -> Result<(), Apart> {
        if self.placed.iter().all(Option::is_none) {
            return Ok(());
        }
        let mut present = Vec::new();
        if self.way == Way::Clsact {
            self.made_qdisc |= add_qdisc(kernel, interface).await?;
            present = kernel.filters(interface.index).await?;
        }
        for (hook, placed) in Hook::ALL.into_iter().zip(&mut self.placed) {
            let Some(placed) = placed else { continue };
            match self.way {
                Way::Tcx => {
                    let at = self.names.as_ref().map(|names| names.at(hook));
                    link_to(placed, interface, hook, at)?
                }
                Way::Clsact if of_ours(&present, hook, placed.name).is_some() => {}
                Way::Clsact => {
                    filter_with(kernel, interface, (hook, placed), self.made_qdisc, &present).await?
                }
            }
        }
        Ok(())
    }

    /// Takes what is ours off the interface.
    pub(crate) async fn clear(&mut self, kernel: &Kernel, interface: &Interface) -> Result<(), KernelError> {
        self.placed = [None, None];
        self.names = None;
        match self.way {
            Way::Tcx => Ok(()),
            Way::Clsact => remove(kernel, interface.index, self.made_qdisc).await,
        }
    }

    /// Writes down what there is to be seen on the interface, with the device that each hook diverts to.
    pub(crate) fn describe(&self, interface: &Interface, devices: [&str; 2], installed: &mut Vec<String>) {
        let how = match self.way {
            Way::Tcx => "tcx".to_owned(),
            Way::Clsact => {
                let whose = if self.made_qdisc { "made by vmlan" } else { "was there" };
                installed.push(format!("qdisc clsact on {} ({whose})", interface.name));
                format!("clsact, priority {}", PRIORITIES.start())
            }
        };
        for ((hook, placed), device) in ["ingress", "egress"].iter().zip(&self.placed).zip(devices) {
            if let Some(Placed { name, .. }) = placed {
                installed.push(format!("program {name} on {} {hook} ({how}), to {device}", interface.name));
            }
        }
    }
}

/// Gives the kernel a program, for [`Hooks::put`].
pub(crate) fn load(name: &'static str, program: &[u64]) -> Result<(&'static str, OwnedFd), Apart> {
    Ok((name, load_classifier(name, program).map_err(refused)?))
}

/// Explains why the kernel does not take programs or what they look into.
pub(crate) fn refused(error: std::io::Error) -> Apart {
    let error = KernelError::new("give the kernel the table of guests and the programs", error);
    Apart::Refused(format!("{}; run vmlan with CAP_BPF", describe(&error)))
}

/// The link of this name, if it is on this hook.
fn inherited(at: &Path, interface: &Interface, hook: Hook) -> Option<Link> {
    let link = Link::open(at).ok().flatten()?;
    (link.place() == Some((interface.index, hook))).then_some(link)
}

/// Makes the program the one that is linked to the hook, under this name if there is one.
fn link_to(placed: &mut Placed, interface: &Interface, hook: Hook, name: Option<&Path>) -> Result<(), Apart> {
    if let Some(link) = &placed.link {
        match link.update(&placed.program) {
            Ok(()) => return Ok(()),
            // Somebody took it off, or it hung on an interface of that name that is gone.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOLINK) => {}
            Err(error) => return Err(failed(placed, interface, error)),
        }
    }
    match Link::new(&placed.program, interface.index, hook) {
        Ok(link) => {
            if let Some(name) = name {
                // Of a link that is off its hook.
                let _ = std::fs::remove_file(name);
                if let Err(error) = link.pin(name) {
                    tracing::warn!(
                        "{}: the program {} ends with vmlan: {error}",
                        interface.name,
                        placed.name
                    );
                }
            }
            placed.link = Some(link);
        }
        Err(error) => return Err(failed(placed, interface, error)),
    }
    Ok(())
}

fn failed(placed: &Placed, interface: &Interface, error: std::io::Error) -> Apart {
    KernelError::new(format!("put the program {} on {}", placed.name, interface.name), error).into()
}

/// Puts the program on the hook as a filter, in the place of ours if there is one among those `present`.
async fn filter_with(
    kernel: &Kernel,
    interface: &Interface,
    (hook, placed): (Hook, &Placed),
    made_qdisc: bool,
    present: &[Filter],
) -> Result<(), Apart> {
    let name = format!("{}{}", placed.name, if made_qdisc { QDISC } else { "" });
    let rule = Rule { hook, priority: *PRIORITIES.start(), name: &name };
    let instead_of = of_ours(present, hook, placed.name);
    let put = kernel.put_filter(interface.index, rule, instead_of, placed.program.as_fd()).await;
    put.map_err(|error| match error.is(Errno::INVAL) {
        true => Apart::Refused(format!(
            "{} has a traffic filter of another kind with priority {}, which vmlan uses; give that one another \
             priority: `tc filter show dev {0} ingress` and `egress`",
            interface.name, rule.priority
        )),
        false => error.into(),
    })
}

/// Our filter on the hook.
fn of_ours<'a>(present: &'a [Filter], hook: Hook, name: &str) -> Option<&'a Filter> {
    present.iter().find(|filter| {
        is_ours(filter)
            && filter.hook == hook
            && filter.priority == *PRIORITIES.start()
            && filter.name.as_deref().is_some_and(|found| found.strip_suffix(QDISC).unwrap_or(found) == name)
    })
}

/// True if a filter is one of ours.
pub(crate) fn is_ours(filter: &Filter) -> bool {
    PRIORITIES.contains(&filter.priority)
        && filter.kind == "bpf"
        && filter.name.as_deref().is_some_and(|name| name.starts_with(PREFIX))
}

/// True if a filter is ours, and says that the qdisc is as well.
pub(crate) fn made_qdisc(filter: &Filter) -> bool {
    is_ours(filter) && filter.name.as_deref().is_some_and(|name| name.ends_with(QDISC))
}

/// Takes our filters off an interface, and the qdisc if it is `ours` and nobody else's filter is on it.
pub(crate) async fn remove(kernel: &Kernel, index: u32, ours: bool) -> Result<(), KernelError> {
    for filter in kernel.filters(index).await?.iter().filter(|filter| is_ours(filter)) {
        kernel.delete_filter(index, filter).await?;
    }
    if ours && kernel.filters(index).await?.is_empty() {
        kernel.delete_hooks(index).await?;
    }
    Ok(())
}

/// Removes what a killed daemon left on the interface.
async fn sweep(kernel: &Kernel, interface: &Interface) -> Result<(), KernelError> {
    let filters = kernel.filters(interface.index).await?;
    let left = filters.iter().filter(|filter| is_ours(filter)).count();
    if left == 0 {
        return Ok(());
    }
    remove(kernel, interface.index, filters.iter().any(made_qdisc)).await?;
    tracing::info!("{}: removed {left} traffic filters that an earlier vmlan left", interface.name);
    Ok(())
}

async fn add_qdisc(kernel: &Kernel, interface: &Interface) -> Result<bool, Apart> {
    kernel.add_hooks(interface.index).await.map_err(|error| match error.is(Errno::EXIST) {
        true => Apart::Refused(format!(
            "{0} has an `ingress` qdisc, in whose place vmlan needs `clsact`; `tc qdisc del dev {0} ingress`, and add \
             its filters again to `tc qdisc add dev {0} clsact`, which takes the same ones",
            interface.name
        )),
        false => error.into(),
    })
}
