//! The engine's worker does what control asks for.

use std::mem;

use vmlan_frame::Context;
use vmlan_nat::reach::Learned;

use super::control::{Command, Flows, number};
use super::queue::UplinkQueue;

impl UplinkQueue {
    /// Does what control asked for.
    pub(super) fn obey(&mut self, cx: &Context<'_>) {
        let commands = mem::take(&mut *self.shared.commands.lock());
        for command in commands {
            self.obey_one(cx, command);
        }
    }

    fn obey_one(&mut self, cx: &Context<'_>, command: Command) {
        let UplinkQueue { engine, host, listeners, .. } = self;
        let io = &mut host.io(cx);
        match command {
            Command::Bind(address, mac, ingress) => engine.bind(io, address, mac, ingress),
            Command::Unbind(address) => engine.unbind(io, address),
            Command::SetAddresses(owners) => engine.set_addresses(io, owners),
            Command::PortGone(ingress) => engine.forget_port(io, ingress),
            Command::PortAway(ingress) => engine.port_away(ingress, cx.now),
            Command::PortBack(ingress) => engine.port_back(io, ingress),
            Command::PortMayBeNew(ingress) => engine.guest_may_be_new(io, ingress),
            Command::Learned { ingress, name, address, ttl } => {
                engine.reach.learn(Learned { ingress, name: &name, address, ttl }, cx.now);
            }
            Command::HostAddresses(addresses) => {
                engine.reach.set_host_addresses(addresses);
                engine.recheck(io);
            }
            Command::Egress(egress) => {
                engine.reach.set_egress(egress);
                engine.recheck(io);
            }
            Command::DenySilently(silently) => engine.reach.set_deny_silently(silently),
            Command::PortEgress(ingress, egress) => {
                engine.reach.set_port_egress(ingress, egress);
                engine.recheck(io);
            }
            Command::Services(services) => {
                engine.reach.set_services(services);
                engine.recheck(io);
            }
            Command::Limits(limits) => engine.guests.set_limits(limits),
            Command::Rate(rate) => engine.set_rate(rate),
            Command::OpenFilter(open) => engine.set_open_filter(open),
            // Without memory to watch it, it hears no callers; they wait, as for a listener that is slow.
            Command::Listen(id, socket, guest, calls) => drop(listeners.add((id, calls), socket, guest)),
            Command::ListenUdp(id, socket, guest) => listeners.add_udp(engine, io, id, socket, guest),
            Command::Aim(id, guest) => listeners.aim(engine, io, id, guest),
            Command::Unlisten(id) => listeners.remove(engine, io, id),
            Command::Flows(answer) => {
                let (statistics, counts) = engine.statistics();
                let tcp = engine.flows().map(|flow| (number(false, flow.id.slot, flow.id.generation), flow));
                let datagrams = engine
                    .datagram_flows()
                    .map(|flow| (number(true, flow.id as u32, (flow.id >> 32) as u32), flow));
                answer(Flows { tcp: tcp.collect(), datagrams: datagrams.collect(), statistics, counts });
            }
            Command::CloseFlow(wanted, answer) => {
                let datagram = engine
                    .datagram_flows()
                    .map(|flow| flow.id)
                    .find(|id| number(true, *id as u32, (id >> 32) as u32) == wanted);
                answer(match datagram {
                    Some(id) => engine.close_datagrams(io, id),
                    None => {
                        let is_it = |slot, generation| number(false, slot, generation) == wanted;
                        engine.close_where(io, |flow| is_it(flow.id.slot, flow.id.generation)) > 0
                    }
                });
            }
        }
    }
}
