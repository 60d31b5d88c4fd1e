//! `cairn locks`

use crate::args::Locks;
use crate::errors::Done;
use crate::output::{Context, dash};
use cairn::lock::{self, Lock};
use serde_json::{Value, json};

/// Who is at work, or one lock broken.
pub fn run(context: &mut Context, args: Locks) -> Done {
    let store = context.store()?;
    if let Some(id) = args.break_id {
        lock::break_lock(&store, &id)?;
        if context.json() {
            context.out.json(&json!({ "broken": id }))?;
        } else {
            context.out.line(&id)?;
        }
        return Ok(0);
    }
    let locks = lock::list(&store)?;
    if context.json() {
        context.out.json(&locks.iter().map(document).collect::<Vec<_>>())?;
        return Ok(0);
    }
    if locks.is_empty() {
        context.talk("nobody is at work");
    }
    context.out.table(&["ID", "LIFE", "PURPOSE", "ARTIFACT", "SINCE", "HOST", ">PID", "USER", "DRAFT", "RUN"], &locks.iter().map(row).collect::<Vec<_>>())?;
    Ok(0)
}

fn document(lock: &Lock) -> Value {
    let r = lock.record.as_ref();
    json!({
        "id": lock.id, "life": lock.life.as_str(), "purpose": r.map(|r| &r.purpose), "artifact": r.and_then(|r| r.artifact.as_ref()),
        "draft": r.and_then(|r| r.draft.as_ref()), "run": r.and_then(|r| r.run.as_ref()), "host": r.map(|r| &r.host), "pid": r.map(|r| r.pid),
        "user": r.map(|r| &r.user), "since": r.map(|r| &r.since),
    })
}

fn row(lock: &Lock) -> Vec<String> {
    let Some(r) = &lock.record else {
        return vec![lock.id.clone(), lock.life.as_str().into(), "unreadable".into()].into_iter().chain(std::iter::repeat_n("-".to_owned(), 7)).collect();
    };
    let or_dash = |text: &Option<String>| dash(text.as_deref().unwrap_or_default());
    vec![
        lock.id.clone(),
        lock.life.as_str().into(),
        r.purpose.clone(),
        or_dash(&r.artifact),
        r.since.clone(),
        r.host.clone(),
        r.pid.to_string(),
        r.user.clone(),
        or_dash(&r.draft),
        or_dash(&r.run),
    ]
}
