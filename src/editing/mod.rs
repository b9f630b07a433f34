//! What an edit is, in plain numbers: directions in the latent space, the recipe of slider values and its file, plain names for attributes.

pub mod attributes;
pub mod easing;
pub mod latent_space;
pub mod recipe;
pub mod sidecar;

pub use attributes::{Attribute, Group, describe};
pub use easing::{Easing, ping_pong};
pub use latent_space::LatentSpace;
pub(crate) use latent_space::dot;
pub use recipe::Recipe;
pub use sidecar::{Crop, Sidecar};
