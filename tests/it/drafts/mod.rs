//! Collaborative versions: what they answer case by case, and what holds when many processes make one at once.

mod cases;
mod finishers;
mod storm;
mod told;
