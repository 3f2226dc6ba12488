//! Problems that are found together.

use std::fmt;

/// All problems of something, at least one.
#[derive(Debug)]
pub struct Problems<E> {
    pub(crate) first: E,
    pub(crate) rest: Vec<E>,
}

impl<E> Problems<E> {
    /// Collects problems; returns `None` if there are none.
    pub(crate) fn collect(problems: impl IntoIterator<Item = E>) -> Option<Self> {
        let mut problems = problems.into_iter();
        let first = problems.next()?;
        Some(Problems { first, rest: problems.collect() })
    }

    /// Returns the first problem.
    #[must_use]
    pub fn into_first(self) -> E {
        self.first
    }

    /// Returns all problems.
    #[must_use]
    pub fn into_all(self) -> Vec<E> {
        std::iter::once(self.first).chain(self.rest).collect()
    }
}

impl<E: fmt::Display> fmt::Display for Problems<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.first)?;
        self.rest.iter().try_for_each(|problem| write!(formatter, "; {problem}"))
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for Problems<E> {}
