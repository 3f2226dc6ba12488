//! Who is told of what is wrong and no reason to stop.

use std::{fmt, sync::Arc};

/// Takes lines for people. Clones tell the same one.
#[derive(Clone)]
pub struct Tell(Arc<dyn Fn(&str) + Send + Sync>);

impl Tell {
    /// Whoever this function tells.
    #[must_use]
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Tell(Arc::new(tell))
    }

    /// Tells a line, without its end.
    pub fn line(&self, text: &str) {
        (self.0)(text);
    }

    /// The same as a function.
    pub fn function(&self) -> impl Fn(&str) + Send + Sync + 'static + use<> {
        let tell = self.clone();
        move |text: &str| tell.line(text)
    }
}

impl fmt::Debug for Tell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tell")
    }
}
