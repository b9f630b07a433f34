//! What an edit is, in plain numbers: directions in the latent space, the recipe of slider values and its file, plain names for attributes.

pub mod attributes;
pub mod easing;
pub mod latent_space;
pub(crate) mod linear;
pub mod locks;
pub mod recipe;
pub mod sidecar;

pub use attributes::{Attribute, Group, describe};
pub use easing::{Easing, ping_pong};
pub use latent_space::{FULL_SCALE, LatentSpace};
pub use locks::Locks;
pub use recipe::Recipe;
pub use sidecar::{Crop, Sidecar};
