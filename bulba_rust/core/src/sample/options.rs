//! What a sampler is asked for, and what it says about its units.

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Chunked = 0,
    Packed = 1,
    Bucketed = 2,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::Chunked, Mode::Packed, Mode::Bucketed];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Chunked => "chunked",
            Mode::Packed => "packed",
            Mode::Bucketed => "bucketed",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    pub mode: Mode,
    pub seq_len: u64,
    /// `None`: units in the order of the file, and behind the last one padding.
    pub seed: Option<u64>,
    /// The share of each source in the targets, up to a factor; `None`: all units in one pool.
    pub weights: Option<Vec<f64>>,
    /// Rows of seq_len in a micro-batch; decides the units of `Bucketed` and nothing else.
    pub rows: u64,
    /// For large batches.
    pub num_threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub rows: u64,
    pub length: u64,
}

/// A run of tokens of one document in a unit: inputs first_token..first_token + length of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub row: u64,
    pub column: u64,
    pub length: u64,
    pub document: u64,
    pub first_token: u64,
}
