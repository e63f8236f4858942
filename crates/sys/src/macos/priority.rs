//! How soon a thread gets a processor that others want as well (pthread/qos.h).
//!
//! Nothing here needs a privilege, and nothing touches another thread. Threads that a thread starts do not inherit it.

use libc::qos_class_t;

/// Asks for early turns of a processor, for a thread that others wait for.
pub fn in_front() {
    set(qos_class_t::QOS_CLASS_USER_INTERACTIVE);
}

/// Lets all others go first, for a thread that nobody waits for.
pub fn behind() {
    set(qos_class_t::QOS_CLASS_UTILITY);
}

/// Takes only the time that no other thread wants, for much work that nobody waits for.
pub fn idle() {
    set(qos_class_t::QOS_CLASS_BACKGROUND);
}

fn set(class: qos_class_t) {
    // SAFETY: no memory is passed, and only the calling thread changes. It fails for a thread with a scheduling of its
    // own, which is then left alone.
    unsafe { libc::pthread_set_qos_class_self_np(class, 0) };
}
