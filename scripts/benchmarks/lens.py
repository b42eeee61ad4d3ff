"""How smoothly the Space's lens follows a hand: frames a second in a real browser."""

from __future__ import annotations

from hfgen.doctor import find_browser

_SECONDS = 3

# Each frame moves the pointer once; what is waited for is the next frame that the browser shows.
_DRAG = """async seconds => {
    const frame = document.querySelector('.hf-window'), box = frame.getBoundingClientRect();
    const send = (type, angle) => frame.dispatchEvent(new PointerEvent(type, {
        bubbles: true, pointerId: 1, pointerType: 'mouse', buttons: 1,
        clientX: box.x + box.width * (.5 + .2 * Math.cos(angle)),
        clientY: box.y + box.height * (.5 + .2 * Math.sin(angle)),
    }));
    const start = performance.now();
    let count = 0;
    for (send('pointerdown', 0); performance.now() - start < 1000 * seconds; count++) {
        send('pointermove', count / 10);
        await new Promise(requestAnimationFrame);
    }
    send('pointerup', 0);
    return 1000 * count / (performance.now() - start);
}"""


def frames_per_second(url: str) -> float | None:
    """While all pictures of the page are zoomed in fourfold and dragged; None without Chromium and playwright."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if (browser := find_browser()) is None:
        return None
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = opened.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        stage = page.locator("[data-hf-stage]")
        stage.wait_for(timeout=120_000)
        for _ in range(2):
            stage.press("+")
        measured = page.evaluate(_DRAG, _SECONDS)
        opened.close()
    return float(measured)
