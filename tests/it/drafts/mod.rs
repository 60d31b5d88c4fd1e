//! Collaborative versions: what they answer case by case, and what holds when many processes make one at once.

mod cases;
mod finish_races;
mod refusals;
mod stress;
