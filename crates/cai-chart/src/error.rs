/// What can go wrong when a figure is drawn.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing can be seen of the data.
    #[error("figure {title:?}: there is no finite point to draw; give at least one")]
    Nothing {
        /// The figure's title.
        title: String,
    },
    /// The drawing library failed.
    #[error("figure {title:?} cannot be drawn: {reason}; look whether all its values are finite")]
    Drawing {
        /// The figure's title.
        title: String,
        /// What the library said.
        reason: String,
    },
}

/// Result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
