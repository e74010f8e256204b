//! Prices of answers, in whole picodollars.
//!
//! [`PriceBook`] knows the published prices, [`OwnPrices`] what the user stated, [`Bill`] what the provider's own answer
//! says. All amounts are whole picodollars (10⁻¹² US dollars): the smallest price there is, for one token, is thousands.

mod bill;
mod book;
mod dates;
mod own;
mod rates;
mod rules;

pub use bill::Bill;
pub use book::{ModelPrices, PriceBook};
pub use own::OwnPrices;
pub use rates::{PICODOLLARS, Rates};
