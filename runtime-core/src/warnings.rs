//! What is odd, and done nevertheless: a poststop hook that fails, a capability that nobody knows. The core does not log;
//! it hands such words to the face that asked for them.

use std::fmt::Display;
use std::sync::OnceLock;

type Listener = Box<dyn Fn(&str) + Send + Sync>;

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Asks for the warnings of this process, whichever thread they come from. The first who asks gets them.
pub fn on_warning(listener: impl Fn(&str) + Send + Sync + 'static) {
    // A second one is a face that begins twice: the first goes on.
    let _ = LISTENER.set(Box::new(listener));
}

/// Nobody may be listening.
pub(crate) fn warn(message: impl Display) {
    if let Some(listener) = LISTENER.get() {
        listener(&message.to_string());
    }
}
