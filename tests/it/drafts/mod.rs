//! Collaborative versions: what they do in each situation, and what holds when many processes make one at once.

mod finish_races;
mod many_writers;
mod refusals;
mod situations;
mod stress;
