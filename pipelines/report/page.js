'use strict';
document.getElementById('title').textContent = JSON.parse(document.getElementById('data').textContent).title;
