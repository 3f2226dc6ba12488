//! The names under which the program is called, and the banners that go with them.
