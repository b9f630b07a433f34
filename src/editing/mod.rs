//! What an edit is, in plain numbers: directions in the latent space, the recipe of slider values, plain names for attributes.

pub mod attributes;
pub mod latent_space;
pub mod recipe;

pub use attributes::{Attribute, Group, describe};
pub use latent_space::LatentSpace;
pub use recipe::Recipe;
