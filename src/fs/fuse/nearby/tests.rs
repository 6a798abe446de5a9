use super::*;

/// With the processors of this process, however many they are.
fn nearby() -> Nearby {
    let processors = sched_getaffinity(None).ok();
    Nearby { processors, ..Nearby::new(Duration::from_micros(100), true) }
}

fn me() -> u32 {
    gettid().as_raw_nonzero().get() as u32
}

#[test]
fn who_makes_many_small_requests_is_followed() {
    let (nearby, mut tick) = (nearby(), Tick::default());
    let mut follows = |requests: &[(u32, usize)]| {
        requests.iter().for_each(|(caller, len)| nearby.note(*caller, *len));
        nearby.tick(&mut tick);
        nearby.follows()
    };
    let (own, other) = (me(), me() + 1);
    assert!(follows(&[(own, 100); 50]));
    assert!(!follows(&[(own, 100); 3]), "few");
    assert!(follows(&[(other, 100), (own, 100)].repeat(25)), "one of two");
    (0..50).for_each(|_| nearby.note_wait());
    assert!(!follows(&[(other, 100), (own, 100)].repeat(50)), "two that wait for each other");
    assert!(follows(&[(own, 100); 50]));
    assert!(!follows(&[(own, 100), (own, SMALL + 1)].repeat(25)), "large ones");
    assert!(follows(&[(own, 100); 50]));
    assert!(!follows(&[(NOBODY, 100); 50]), "from another namespace");
    assert!(
        follows(&[(own, 100), (own, 100), (NOBODY, 100)].repeat(20)),
        "who closes a directory in each three"
    );
}

#[test]
fn where_bound_threads_serve_one_caller_of_many_small_requests_is_kept() {
    let start = Instant::now();
    let window = |ms, turns, large| Window { since: Some(start + Duration::from_millis(ms)), turns, large };
    let earlier = window(5, 10, 20);
    assert!(window(6, 10, 20).is_of_one_caller(&earlier));
    assert!(window(6, 10 + TURNS_MAX, 20 + WINDOW / LARGE_ONE_IN).is_of_one_caller(&earlier));
    assert!(!window(6, 11 + TURNS_MAX, 20).is_of_one_caller(&earlier), "several");
    assert!(!window(6, 10, 21 + WINDOW / LARGE_ONE_IN).is_of_one_caller(&earlier), "large ones");
    assert!(!window(7, 10, 20).is_of_one_caller(&earlier), "few");
    assert!(!window(6, 10, 20).is_of_one_caller(&Window::default()), "the first");

    let (nearby, here) = (nearby(), sched_getaffinity(None).unwrap());
    let here = (0..).find(|processor| here.is_set(*processor)).unwrap();
    (0..10 * WINDOW).for_each(|n| nearby.note_at(here, n as u32 + 1, 0));
    assert!(!nearby.follows(), "each by another one");
    // Looks are made by several at once.
    std::thread::scope(|scope| {
        for caller in [me(), me() + 1] {
            let nearby = &nearby;
            scope.spawn(move || (0..1000 * WINDOW).for_each(|_| nearby.note_at(here, caller, 0)));
        }
    });
    assert_eq!(
        sched_getaffinity(None).unwrap().count(),
        nearby.processors.unwrap().count(),
        "not bound by it"
    );
    let mut tick = Tick::default();
    (0..50).for_each(|_| _ = nearby.company.note(me(), 0));
    let place = nearby.place.load(Relaxed);
    nearby.tick(&mut tick);
    assert_eq!(nearby.place.load(Relaxed), place, "a tick places nobody");
}

#[test]
fn a_serving_thread_binds_and_frees_itself() {
    let (nearby, mut tick) = (nearby(), Tick::default());
    let before = sched_getaffinity(None).unwrap();
    (0..50).for_each(|_| nearby.note(me(), 0));
    nearby.tick(&mut tick);
    nearby.note(me(), 0);
    assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
    nearby.tick(&mut tick);
    nearby.note(me(), 0);
    assert_eq!(sched_getaffinity(None).unwrap(), before);
}

#[test]
fn a_stream_is_served_beside_the_place_where_others_are() {
    let (nearby, mut tick) = (nearby(), Tick::default());
    let before = sched_getaffinity(None).unwrap();
    let (large, streamer) = (1 << 20, me() + 1);
    let mut bound_after = |caller, len| {
        nearby.note(caller, len);
        nearby.tick(&mut tick);
        nearby.note(caller, len);
        sched_getaffinity(None).unwrap()
    };
    assert_eq!(bound_after(streamer, large), before, "a stream alone");
    let place = bound_after(me(), 0);
    assert!(place.count() == 1 && nearby.is_mixed());
    if before.count() > 1 {
        let beside = bound_after(streamer, large);
        assert_eq!(beside.count(), before.count() - 1);
        assert!((0..CpuSet::MAX_CPU).all(|n| !(place.is_set(n) && beside.is_set(n))));
    }
    // Nobody knows where the streamer runs.
    nearby.note(streamer, 0);
    (0..TICKS).for_each(|_| nearby.tick(&mut tick));
    assert!(nearby.follows(), "its small requests are no reason to go there");
}

#[test]
fn the_keeper_stops_when_no_request_comes_and_at_the_end() {
    let (nearby, mut tick) = (nearby(), Tick::default());
    std::thread::scope(|scope| {
        let keeper = scope.spawn(|| nearby.keep());
        (0..50).for_each(|_| nearby.note(me(), 0));
        nearby.tick(&mut tick);
        // It has stopped for want of requests, or does so now.
        nearby.end();
        keeper.join().unwrap();
    });
    let processors = sched_getaffinity(None).unwrap();
    nearby.place.store(1, Relaxed);
    nearby.keep_awake(&processors);
}
