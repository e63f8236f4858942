use testbed::peer::{vde_plug2tap, vde_switch};

use crate::world::{INTERFACE, World};

/// VDE's switch and VDE's plugs.
pub fn switch(world: &mut World) {
    let directory = world.directory().join("switch");
    let switch = vde_switch(&directory);
    world.keep(switch);
    for plug in [&world.a, &world.b].map(|host| vde_plug2tap(&host.netns, &directory, INTERFACE)) {
        world.keep(plug);
    }
}
