"use strict";
// In the pages of optuna-dashboard and MLflow: a link to the page of the same study in caviar.
(() => {
  const link = document.createElement("a");
  link.id = "caviar-fellow";
  link.textContent = "caviar";
  link.title = "The same study in caviar";
  link.style.cssText =
    "position:fixed;right:12px;bottom:12px;z-index:9999;padding:8px 14px;border-radius:18px;" +
    "background:#1f5f82;color:#fff;font:14px system-ui,sans-serif;text-decoration:none";
  const follow = () => { link.href = "/from?place=" + encodeURIComponent(location.pathname + location.hash); };
  for (const event of ["pointerdown", "focus", "click"]) link.addEventListener(event, follow);
  follow();
  document.body.appendChild(link);
})();
