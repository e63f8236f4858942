//! The description of the control interface in OpenAPI, which is made of the types of `vmlan-api`.

use crate::shell::{Error, cargo, run};

/// The test that compares what is checked in, or writes it when it is asked to.
const TEST: &str = "the_description_is_the_one_of_the_source";

/// Writes the description. Its generator is in the tests of the crate, so that nothing of it is in the product.
///
/// # Errors
/// When the crate cannot be built, or the file not written.
pub fn write() -> Result<(), Error> {
    run(cargo(["test", "--quiet", "-p", "vmlan-api", "--lib", TEST]).env("VMLAN_WRITE_OPENAPI", "1"))
}
