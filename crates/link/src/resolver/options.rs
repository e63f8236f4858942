/// The options that a resolver is made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Neighbours in the table; when it is full, the least useful one is forgotten.
    pub neighbours: usize,
    /// Packets that wait for one neighbour.
    pub waiting_each: usize,
    /// Packets that wait together.
    pub waiting: usize,
    /// Octets that they have together.
    pub waiting_octets: usize,
    /// Requests a second, and at once after a quiet second.
    pub requests_per_second: u32,
    /// True if an own address is probed for before it is used; else it is announced and used at once.
    pub detect_duplicates: bool,
    /// Where the random parts of times start.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            neighbours: 1024,
            waiting_each: 3,
            waiting: 256,
            waiting_octets: 1 << 20,
            requests_per_second: 128,
            detect_duplicates: true,
            seed: 0,
        }
    }
}
