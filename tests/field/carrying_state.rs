//! Tables saved, carried to another machine or zone, and loaded again.
